# `nix develop` gives a shell with pixi in which wheels from the package index work on NixOS.
#
# Such wheels, and pixi's own packages, expect the file layout of other distributions (a loader in /lib64, libstdc++ on
# the search path), so the Linux shell is an FHS environment. The NVIDIA driver stays the host's: NixOS keeps libcuda in
# /run/opengl-driver/lib.
{
  description = "Fine-tuning language models in environments that never meet";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    let
      tools =
        pkgs: with pkgs; [
          pixi
          git
          cacert
        ];
      linux =
        pkgs:
        (pkgs.buildFHSEnv {
          name = "tuneyard";
          targetPkgs =
            inside:
            tools inside
            ++ (with inside; [
              stdenv.cc.cc.lib # libstdc++, which most wheels link
              zlib
              gcc # Triton and DeepSpeed compile as they run
              uv # for ./pixiw where pixi is not wanted
              python311
            ]);
          profile = ''
            export LD_LIBRARY_PATH=/run/opengl-driver/lib''${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
            export TRITON_LIBCUDA_PATH=/run/opengl-driver/lib
            export SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt
          '';
          runScript = "bash";
        }).env;
    in
    {
      devShells.x86_64-linux.default = linux nixpkgs.legacyPackages.x86_64-linux;
      devShells.aarch64-darwin.default =
        let
          pkgs = nixpkgs.legacyPackages.aarch64-darwin;
        in
        pkgs.mkShell { packages = tools pkgs; };
    };
}
