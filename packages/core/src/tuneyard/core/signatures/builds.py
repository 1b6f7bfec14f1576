"""What was built for something else: binaries, versions, compilers, solvers."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "flash-attn-abi",
        r"flash_attn\w*\.cpython-[^ ]*\.so: undefined symbol",
        cause="flash-attn was built for another torch",
        way_out=(
            "install the flash-attn wheel whose name has this torch, CUDA and Python, or none: `pip uninstall "
            "flash-attn` and `engine.flash_attn: sdpa`"
        ),
        thread="Dao-AILab/flash-attention/issues/1832",
    ),
    signature(
        "vllm-abi",
        r"vllm/_\w*\.\S*so: undefined symbol",
        cause="vLLM was built for another torch",
        way_out="give vLLM an environment of its own and let it choose its torch: `./pixiw install -e serve`",
        thread="vllm-project/vllm/issues/20361",
    ),
    signature(
        "torchvision-mismatch",
        r"operator torchvision::nms does not exist|_torchaudio\.abi3\.so: undefined symbol",
        cause="torchvision or torchaudio was built for another torch",
        way_out=(
            "install the ones that belong to this torch, or none: text needs none (`pip uninstall torchvision "
            "torchaudio`)"
        ),
        thread="pytorch/pytorch/issues/157648",
    ),
    signature(
        "cuda-libraries-mixed",
        r"undefined symbol: __nvJitLink|undefined symbol: \w*cublasLt|libcudnn\w*\.so[^ ]*: undefined symbol",
        cause="CUDA libraries of two versions are mixed; often LD_LIBRARY_PATH brings in the system's",
        way_out="`unset LD_LIBRARY_PATH`, then install torch and its nvidia-* packages again in one go",
        thread="pytorch/pytorch/issues/134929",
    ),
    signature(
        "cuda-runtime-missing",
        r"lib(?:cudart|cublas|cudnn|cusparse|nvrtc)\w*\.so\.\d+[^ ]*: cannot open shared object file",
        cause="a package was built for a CUDA version whose libraries are not there",
        way_out="`python -c 'import torch; print(torch.version.cuda)'`: install the package's build for that version",
        thread="vllm-project/vllm/issues/52300",
    ),
    signature(
        "bitsandbytes-cuda",
        r"CUDA Setup failed despite|Could not (?:find|load) (?:the )?bitsandbytes (?:CUDA binary|native library)",
        cause="bitsandbytes has no library for this CUDA",
        way_out="`pip install -U bitsandbytes`, then `python -m bitsandbytes`; BNB_CUDA_VERSION must be unset",
        thread="bitsandbytes-foundation/bitsandbytes/issues/1559",
    ),
    signature(
        "numpy-abi",
        r"numpy\.(?:dtype|ndarray) size changed|A module that was compiled using NumPy 1\.x cannot be run in",
        cause="a package was built for another numpy",
        way_out="`pip install 'numpy<2'`, or upgrade the package that the traceback names",
        thread="MathOnco/valis/issues/165",
    ),
    signature(
        "libstdcxx-too-old",
        r"version `(?:GLIBCXX|CXXABI|GLIBC)_[\d.]+' not found",
        cause="a package wants a newer C or C++ library than this system's",
        way_out=(
            "a wheel for an older system, or conda's `libstdcxx-ng` first on LD_LIBRARY_PATH; for GLIBC a newer system "
            "or container"
        ),
        thread="Dao-AILab/flash-attention/issues/1708",
    ),
    signature(
        "cuda-home-missing",
        r"CUDA_HOME does not exist|CUDA_HOME environment variable is not set",
        cause="DeepSpeed or another extension wants to compile and finds no CUDA toolkit",
        way_out=(
            "set CUDA_HOME to a toolkit of torch's version, or do without: DS_BUILD_OPS=0, `pip uninstall deepspeed`"
        ),
        thread="hiyouga/LlamaFactory/issues/9270",
    ),
    signature(
        "python-headers-missing",
        r"fatal error: Python\.h: No such file",
        cause="Triton compiles with Python's headers, and they are not installed",
        way_out="`apt install python3-dev` of this very Python version, or a Python that brings them (uv's, conda's)",
        thread="vllm-project/vllm/issues/27890",
    ),
    signature(
        "no-compiler",
        r"Failed to find C compiler|No such file or directory: '(?:gcc|cc|g\+\+|clang)'",
        cause="Triton compiles at run time and finds no C compiler",
        way_out="`apt install build-essential`, or set CC",
        thread="apple/ml-cross-entropy/issues/5",
    ),
    signature(
        "ppo-removed",
        (
            r"Incompatible TRL version detected|LLaMA-Factory ppo requires|trl>=0\.8\.6,<=0\.9\.6 is required|"
            r"cannot import name 'AutoModelForCausalLMWithValueHead'"
        ),
        cause="PPO needs a trl that LLaMA-Factory no longer works with",
        way_out="use dpo, kto or rm",
        thread="hiyouga/LlamaFactory/issues/10757",
    ),
    signature(
        "version-refused",
        r"is required for a normal functioning of this module, but found|distribution was not found and is required by",
        cause="LLaMA-Factory or transformers refuses the version of a package that is installed",
        way_out=(
            "install the version the line names; `yard doctor train` shows who asks for what (DISABLE_VERSION_CHECK=1 "
            "only hides it)"
        ),
        thread="hiyouga/LlamaFactory/issues/6884",
    ),
    signature(
        "transformers-too-new-for-trl",
        r"No module named 'mergekit'",
        cause="trl before 1.0 takes its optional packages for installed with transformers 5",
        way_out="trl 1.x (GRPO in an environment of its own), or transformers 4",
        thread="modelscope/ms-swift/issues/9261",
    ),
    signature(
        "trl-renamed-argument",
        r"Trainer\.__init__\(\) got an unexpected keyword argument",
        cause="trl or transformers renamed or moved an argument of its trainers",
        way_out=(
            "write for the installed version (`tokenizer` is now `processing_class`), or install the version the code "
            "was written for"
        ),
        thread="huggingface/trl/issues/6168",
    ),
    signature(
        "name-moved",
        (
            r"cannot import name '\w+' from '(?:transformers|trl|peft|accelerate|huggingface_hub|datasets|torch|"
            r"vllm)[\w.]*'"
        ),
        cause="one library is too new, or too old, for another that imports from it",
        way_out=(
            "`yard doctor train eval` shows which ranges agree; go back to the locked versions with `./pixiw install "
            "-e train`"
        ),
        thread="huggingface/trl/issues/1409",
    ),
    signature(
        "old-torch-pickle",
        r"serious vulnerability issue in `torch\.load`",
        cause="transformers refuses to read .bin and optimizer files with a torch before 2.6",
        way_out="torch 2.6 or newer, or a model in safetensors; a training that is to be resumed needs the newer torch",
        thread="hiyouga/LlamaFactory/issues/8379",
    ),
    signature(
        "versions-conflict",
        (
            r"because these package versions have conflicting dependencies|ResolutionImpossible|"
            r"No solution found when resolving"
        ),
        cause="what is asked for has no versions that agree",
        way_out=(
            "`yard doctor compare A B` names the smallest set that conflicts and what giving one up costs; engines "
            "that disagree need environments of their own"
        ),
        thread="vllm-project/vllm/issues/9092",
    ),
    signature(
        "installed-anyway",
        r"pip's dependency resolver does not currently take into account",
        cause="pip installed a version that another installed package refuses",
        way_out="`pip check` lists what is broken; install both in one command, or in environments of their own",
        thread="zai-org/GLM-OCR/issues/140",
        effect="warns",
    ),
    signature(
        "resolution-too-deep",
        r"ResolutionTooDeep|resolution-too-deep",
        cause="pip gave up looking for versions that agree",
        way_out="pin the package that it tried most versions of; `uv pip compile` says which requirements conflict",
        thread="pypa/pip/issues/13281",
    ),
    signature(
        "ancient-release",
        (
            r"is looking at multiple versions of \S+ to determine|(?:\+ |Collecting |"
            r"Successfully installed .*)vllm(?:==|-)0\.[0-4]\."
        ),
        cause="the solver walks back to older and older releases: the newest ones conflict with something asked for",
        way_out=(
            "give lower bounds (`vllm>=0.20`), or separate environments; `yard doctor` names the requirements that "
            "conflict"
        ),
        thread="vllm-project/vllm/issues/545",
        effect="warns",
    ),
    signature(
        "missing-module",
        r"ModuleNotFoundError: No module named '[\w.]+'",
        cause="a Python package is missing in the environment",
        way_out="`./pixiw install --all` builds the environments; a package of your own goes into pixi.toml",
        thread="hiyouga/LlamaFactory/issues/8675",
    ),
)
