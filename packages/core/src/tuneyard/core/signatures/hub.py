"""The model hub and its cache."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "hub-no-access",
        (
            r"you are not in the authorized list|403 Client Error[^\n]*huggingface\.co|"
            r"awaiting a review from the repo authors"
        ),
        cause="the hub knows your token, but it has no access to this repository",
        way_out="ask for access on the repository's page; a fine-grained token must also allow gated repositories",
        thread="huggingface/transformers/issues/29177",
    ),
    signature(
        "hub-gated",
        (
            r"GatedRepoError|Cannot access gated repo|Access to (?:model|dataset) \S+ is restricted|Repo (?:model|"
            r"dataset) \S+ is gated|401 Client Error"
        ),
        cause="the hub refuses this repository: no token, or no access granted to it",
        way_out="accept its terms on its hub page, then set HF_TOKEN or run `hf auth login`",
        thread="McGill-NLP/llm2vec/issues/130",
    ),
    signature(
        "hub-rate-limit",
        r"429 Client Error|429 Too Many Requests",
        cause="the hub takes no more requests from here for now",
        way_out="set HF_TOKEN (a known user may ask more), fill the cache once and set HF_HUB_OFFLINE=1",
        thread="huggingface/transformers/issues/34841",
    ),
    signature(
        "hub-unreachable",
        (
            r"Couldn't reach '[^']+' on the Hub|LocalEntryNotFoundError|OfflineModeIsEnabled|"
            r"Failed to resolve 'huggingface\.co'|couldn't connect to 'https://huggingface\.co'|"
            r"host='huggingface\.co', port=443\): Max retries exceeded"
        ),
        cause="the hub cannot be reached and its cache does not hold what is asked for",
        way_out=(
            "give a local folder, fill the cache on a machine with network (HF_HOME), or set HF_ENDPOINT to a mirror"
        ),
        thread="PromtEngineer/localGPT/issues/822",
    ),
    signature(
        "hub-cache-race",
        r"Stale file handle|(?:FileExistsError|FileNotFoundError)[^\n]*(?:/blobs/|/snapshots/|\.incomplete)",
        cause="several jobs filled the hub's cache at the same time, or its file system does not lock",
        way_out=(
            "fill the cache once before the jobs start (`hf download MODEL`), or a cache of its own for each (HF_HOME)"
        ),
        thread="huggingface/huggingface_hub/issues/1133",
    ),
    signature(
        "remote-code",
        (
            r"contains custom code which must be executed|[Pp]lease pass the argument `trust_remote_code=True`|"
            r"requires you to execute the configuration file in that repo"
        ),
        cause="the model or dataset brings Python code of its own, and nobody said that it may run",
        way_out="read the code first; then `engine.trust_remote_code: true`",
        thread="EleutherAI/lm-evaluation-harness/issues/2370",
    ),
    signature(
        "dataset-script",
        r"Dataset scripts are no longer supported",
        cause="datasets 4 no longer runs a dataset's own loading script",
        way_out="a copy of the dataset as Parquet (often on the hub's branch refs/convert/parquet), or `datasets<4`",
        thread="EleutherAI/lm-evaluation-harness/issues/3171",
    ),
    signature(
        "api-key-missing",
        r"api_key client option must be set|Unable to initialise \w+ client|No \S*_API_KEY\S* defined in the",
        cause="a model behind an API is asked for and its key is not set",
        way_out="set the variable the line names (OPENAI_API_KEY, …) in the environment, never in a spec",
        thread="567-labs/instructor/issues/277",
    ),
)
