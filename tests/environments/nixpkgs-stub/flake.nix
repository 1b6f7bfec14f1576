# Stands for nixpkgs where it cannot be fetched: the names that flake.nix may use, as derivations that build nothing.
# A name that is missing here fails the evaluation; add it only after looking it up in the real nixpkgs.
{
  outputs =
    { ... }:
    let
      packagesOf =
        system:
        let
          made = name: attributes: derivation ({ inherit name system; builder = "/bin/sh"; } // attributes);
          names = [
            "cacert"
            "gcc"
            "git"
            "pixi"
            "python311"
            "uv"
            "zlib"
          ];
          plain = builtins.listToAttrs (map (name: { inherit name; value = made name { }; }) names);
          self = plain // {
            stdenv.cc.cc.lib = made "gcc-lib" { };
            mkShell = { packages }: made "nix-shell" { packages = map (each: each.name) packages; };
            # As in nixpkgs: the program, with the shell for `nix develop` in its `env`.
            buildFHSEnv =
              { name, targetPkgs, profile, runScript }:
              made name { } // {
                env = made "${name}-shell-env" {
                  inherit profile runScript;
                  packages = map (each: each.name) (targetPkgs self);
                };
              };
          };
        in
        self;
    in
    {
      legacyPackages.x86_64-linux = packagesOf "x86_64-linux";
      legacyPackages.aarch64-darwin = packagesOf "aarch64-darwin";
    };
}
