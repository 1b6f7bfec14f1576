// A whole round through the TypeScript client: list, train, wait, log, evaluate, compare, record.
//
//     node round_trip.mjs ERA PYTHON        ERA is legacy or 2026-07-28
//
// Its structured answers are checked against the tools' output schemas by the client itself. Prints what came of it as JSON.

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [era, python] = process.argv.slice(2);
const mode = era === "legacy" ? "legacy" : { pin: era };
const client = new Client({ name: "round-trip", version: "1.0.0" }, { versionNegotiation: { mode } });
await client.connect(
  new StdioClientTransport({ command: python, args: ["-m", "tuneyard.mcp"], env: { ...process.env }, stderr: "inherit" }),
);

async function call(name, args) {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
}

const ended = (run) => call("run_status", { run_id: run, wait_seconds: 50, wait_for: "end" });

const tools = (await client.listTools()).tools.map((tool) => tool.name);
const fields = { model: "builtin:tiny", dataset: { source: "builtin:arithmetic", digits: 1, size: 20 } };
const run = (await call("train", { fields })).runs[0].id;
const trained = await ended(run);
const log = await call("run_logs", { run_id: run, stream: "supervisor", mode: "tail" });
const evaluations = [];
for (const dtype of ["3", "7"]) {
  const asked = { models: [run], tasks: ["arithmetic"], fields: { dtype } };
  const evaluation = (await call("evaluate", asked)).runs[0].id;
  evaluations.push((await ended(evaluation)).id);
}
const compared = await call("compare_runs", { a: evaluations[0], b: evaluations[1] });
const recorded = await call("record_recent_changes", { summary: "A round in TypeScript", run_ids: [run] });
const refused = await client.callTool({ name: "run_status", arguments: { runid: run } });
await client.close();

console.log(
  JSON.stringify({
    tools,
    state: trained.state,
    log: log.size,
    difference: compared.differences[0].difference,
    entry: recorded.entry,
    refused: refused.content[0].text,
  }),
);
