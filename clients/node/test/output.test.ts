/** What tasks print and log. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Client, type TaskOutput } from "../src/index.js";
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

  test("what tasks print and log comes before their results", async () => {
    const printed = client.submit("builtins:print", ["hällo"], {}, { label: "greeting" });
    await printed;
    assert.deepEqual(
      outputs.splice(0).map(({ stream, text, label, task }) => [stream, text, label, task === printed]),
      [["stdout", "hällo\n", "greeting", true]],
    );
    await client.submit("builtins:print", [printed]);
    assert.deepEqual(
      outputs.splice(0).map(({ stream, text }) => [stream, text]),
      [["stdout", "None\n"]],
    );
    // It writes to the standard error as well, where nobody has set up logging.
    await client.submit("logging:warning", ["disk %s", "full"]);
    const [logged] = outputs.filter(({ stream }) => stream === "log");
    assert.deepEqual([logged?.text, logged?.record?.logger, logged?.record?.level], ["disk full", "root", 30]);
  });
});
