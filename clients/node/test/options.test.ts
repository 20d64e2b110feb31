/** Options of calls: their records, and what they do on a real cluster. */

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Client, RemoteTaskError, TaskEndedError } from "../src/index.js";
import { encodeRecord, joinRecords, type SubmitOptions } from "../src/options.js";

const address = process.env["SCALER_ADDRESS"] ?? "";

test("records", () => {
  const cases: [SubmitOptions, string][] = [
    [{}, ""],
    [{ retries: 0, priority: 0, idempotent: true, timeoutSeconds: Number.POSITIVE_INFINITY, tags: {} }, ""],
    [{ label: "nächtlich" }, '{"label":"nächtlich"}'],
    [{ tags: { run: "17", desk: "" } }, '{"tags":{"desk":"","run":"17"}}'],
    [
      { timeoutSeconds: 1.5, deadlineSeconds: 60, priority: -3, idempotent: false },
      '{"timeout_seconds":1.5,"deadline_seconds":60,"priority":-3,"idempotent":false}',
    ],
    [
      { retries: 3 },
      '{"retries":{"times":3,"on":["builtins.Exception"],"wait_seconds":0,"backoff":2,"wait_max_seconds":60}}',
    ],
    [
      { retries: { times: 1, on: ["ValueError", "a.b.Error"], waitSeconds: 1, backoff: 1, waitMaxSeconds: 5 } },
      '{"retries":{"times":1,"on":["builtins.ValueError","a.b.Error"],"wait_seconds":1,"backoff":1,"wait_max_seconds":5}}',
    ],
  ];
  for (const [options, record] of cases) {
    assert.equal(encodeRecord(options), record);
  }
});

test("the records of a batch", () => {
  const cases: [string[], string][] = [
    [["", ""], ""],
    [['{"label":"a"}', '{"label":"a"}'], '{"records":[{"label":"a"}]}'],
    [["", '{"label":"a"}', ""], '{"records":[{},{"label":"a"}],"rows":[0,1,0]}'],
  ];
  for (const [rows, column] of cases) {
    assert.equal(joinRecords(rows).toString(), column);
  }
});

test("options that are impossible", () => {
  const cases: [object, RegExp][] = [
    [{ label: "" }, /^RangeError: label "" is not one line of printable characters/],
    [{ label: "a\nb" }, /^RangeError: label/],
    [{ label: "x".repeat(101) }, /more than 100 characters/],
    [{ label: 5 }, /^TypeError: label must be a string/],
    [{ tags: { a: 1 } }, /^TypeError: tags: the value of "a" must be a string/],
    [{ tags: Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`t${index}`, ""])) }, /20 at most/],
    [{ retries: -1 }, /retries must be from 0 to 1000, not -1/],
    [{ retries: 1.5 }, /^TypeError: retries must be a whole number/],
    [{ retries: { times: 1, on: [] } }, /1 to 20 names/],
    [{ retries: { times: 1, backoff: 0.5 } }, /backoff must be from 1 to 1000/],
    [{ retries: 1, idempotent: false }, /never runs twice/],
    [{ timeoutSeconds: 0 }, /^RangeError: timeoutSeconds must be more than 0/],
    [{ deadlineSeconds: Number.NaN }, /^TypeError: deadlineSeconds must be a number/],
    [{ deadlineSeconds: 1e12 }, /^RangeError: deadlineSeconds/],
    [{ priority: 1e7 }, /priority must be from -1000000 to 1000000/],
    [{ idempotent: 1 }, /^TypeError: idempotent must be true or false/],
  ];
  for (const [options, message] of cases) {
    assert.throws(
      () => encodeRecord(options),
      (error) => message.test(String(error)),
      JSON.stringify(options),
    );
  }
});

describe("on a cluster", { skip: address === "" }, () => {
  let client: Client;
  let folder: string;
  before(async () => {
    client = await Client.connect(address, { name: "options.test" });
    folder = await mkdtemp(join(tmpdir(), "scaler-options-"));
  });
  after(async () => {
    await client.close();
    await rm(folder, { recursive: true });
  });

  test("a task that fails runs again", async () => {
    const path = join(folder, "later");
    const retries = { times: 100, on: ["FileNotFoundError"], waitSeconds: 0.1, backoff: 1 };
    const size = client.submit<number>("os.path:getsize", [path], {}, { retries });
    await client.submit("operator:add", [1, 1]);
    await writeFile(path, "abc");
    assert.equal(await size, 3);
    await assert.rejects(
      client.submit("os.path:getsize", [`${path}r`], {}, { retries: { times: 5, on: ["ValueError"] } }),
      (error) => error instanceof RemoteTaskError && error.pythonType === "FileNotFoundError",
    );
  });

  test("limits of time", async () => {
    for (const options of [{ timeoutSeconds: 0.3 }, { deadlineSeconds: 0.3 }]) {
      await assert.rejects(
        client.submit("time:sleep", [100], {}, options),
        (error) => error instanceof TaskEndedError && error.status === "timedOut",
      );
    }
  });

  test("what is not to run twice does not", async () => {
    await assert.rejects(
      client.submit("tests.integration.functions:kill_self", [], {}, { idempotent: false }),
      (error) => error instanceof TaskEndedError && /not run again|never/.test(error.message),
    );
  });

  test("tasks with different options in one message", async () => {
    const tasks = Array.from({ length: 3000 }, (_, index) =>
      client.submit<number>("operator:neg", [index + 1], {}, index % 3 ? { label: `l${index % 50}`, priority: 1 } : {}),
    );
    assert.deepEqual(
      await Promise.all(tasks),
      tasks.map((_, index) => -index - 1),
    );
  });
});
