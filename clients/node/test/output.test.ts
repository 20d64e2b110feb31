/** What tasks print and log. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Client, type TaskOutput, type TaskPromise } from "../src/index.js";
import { readOutput } from "../src/output.js";

const address = process.env["SCALER_ADDRESS"] ?? "";
const NOBODY = { label: "", task: undefined };

test("output and log records are read, and what is cut off is left out", () => {
  assert.deepEqual(readOutput(1, Buffer.from("a\nb"), 0, NOBODY), [{ stream: "stdout", text: "a\nb", ...NOBODY }]);
  const [dropped, rest] = readOutput(2, Buffer.from("c"), 17, NOBODY);
  assert.match(dropped!.text, /17 bytes of output were dropped/);
  assert.deepEqual(rest, { stream: "stderr", text: "c", ...NOBODY });
  const sent = { logger: "desk", level: 30, message: "slow", created: 1.5, file: "f.py", line: 3, function: "g" };
  const [record, ...none] = readOutput(3, Buffer.from(`${JSON.stringify(sent)}\n{"logger":\n5\n`), 0, NOBODY);
  assert.deepEqual(none, []);
  assert.equal(record!.text, "slow");
  assert.deepEqual(record!.record, {
    logger: "desk",
    level: 30,
    created: new Date(1500),
    file: "f.py",
    line: 3,
    function: "g",
    traceback: "",
  });
});

describe("on a cluster", { skip: address === "" }, () => {
  const outputs: TaskOutput[] = [];
  let client: Client;
  before(async () => {
    client = await Client.connect(address, { onOutput: (output) => outputs.push(output) });
  });
  after(() => client.close());

  /** Return what has come since the last call, by stream. Where one piece ends and the next begins is up to the worker. */
  const take = (task?: TaskPromise<unknown>) => {
    const texts: Record<string, string> = {};
    for (const { stream, text, ...of } of outputs.splice(0)) {
      assert.ok(task === undefined || of.task === task);
      const by = of.label === "" ? stream : `${stream} of ${of.label}`;
      texts[by] = (texts[by] ?? "") + text;
    }
    return texts;
  };

  test("what tasks print and log comes before their results", async () => {
    const printed = client.submit("builtins:print", ["hällo"], {}, { label: "greeting" });
    await printed;
    assert.deepEqual(take(printed), { "stdout of greeting": "hällo\n" });
    await client.submit("builtins:print", [printed]);
    assert.deepEqual(take(), { stdout: "None\n" });
    const code = ["print('half a ', end='', flush=True), print('line')"];
    await client.submit("builtins:eval", code, {}, { label: "pieces" });
    assert.deepEqual(
      outputs.map(({ text }) => text),
      ["half a ", "line\n"],
    );
    assert.deepEqual(take(), { "stdout of pieces": "half a line\n" });
    // It writes to the standard error as well, where nobody has set up logging.
    await client.submit("logging:warning", ["disk %s", "full"]);
    const [logged] = outputs.filter(({ stream }) => stream === "log");
    assert.deepEqual([logged?.text, logged?.record?.logger, logged?.record?.level], ["disk full", "root", 30]);
  });
});
