"""Every tool by its name. None of their modules is imported here."""

from tuneyard.mcp.tool import Tool

TOOLS = {
    tool.name: tool
    for tool in (
        Tool("train", "Start a training", "start", open_world=True),
        Tool("build_dataset", "Build a dataset", "datasets", destroys=True, open_world=True),
        Tool("evaluate", "Start an evaluation", "start", open_world=True),
        Tool("serve", "Start a server", "start", open_world=True),
        Tool("generate", "Start a batch generation", "start", open_world=True),
        Tool("serve_stop", "End a server", "change", destroys=True),
        Tool("run_status", "How a run goes", "status", reads_only=True, idempotent=True),
        Tool("run_logs", "What a run wrote", "logs", reads_only=True, idempotent=True),
        Tool("run_cancel", "End a run", "change", destroys=True),
        Tool("run_resume", "Go on with a run", "change", open_world=True),
        Tool("list_runs", "Find runs", "listing", reads_only=True, idempotent=True),
        Tool("compare_runs", "Compare two evaluations", "comparison", reads_only=True, idempotent=True),
        Tool("plan_study", "What a study would run", "studies", reads_only=True, idempotent=True),
        Tool("run_study", "Run a study", "studies", open_world=True),
        Tool("study_report", "What a study found", "studies", idempotent=True),
        Tool("describe", "What can be asked for", "describe", reads_only=True, idempotent=True),
        Tool("env_diagnose", "What is wrong with the environments", "environments", reads_only=True, idempotent=True),
        Tool("record_recent_changes", "Record a change in AGENTS.md", "notes", idempotent=True),
        Tool("set_current_tasks", "Replace the current tasks in AGENTS.md", "notes", destroys=True, idempotent=True),
    )
}
