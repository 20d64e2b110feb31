/** The frames that the Python side's tests hold for every kind of message: this client reads them, and writes the same bytes. */

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decodeHeader, encodeHeader } from "../src/capnp.js";
import { ProtocolError } from "../src/errors.js";
import { decodeEnvelope, encodeEnvelope, readU64 } from "../src/wire.js";

const ROOT = process.env["SCALER_REPOSITORY"] ?? join(import.meta.dirname, "../../../..");
const FOLDER = join(ROOT, "packages/scaler-protocol/tests/wire/golden");
const isHere = existsSync(FOLDER);

function framesOf(name: string): Buffer[] {
  const raw = readFileSync(join(FOLDER, name));
  const frames: Buffer[] = [];
  for (let at = 4; at < raw.length;) {
    const length = raw.readUInt32LE(at);
    frames.push(raw.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}

const names = isHere ? readdirSync(FOLDER).filter((name) => name.endsWith(".bin")) : [];

test("every golden file of a known kind is read and written again as it is", { skip: !isHere }, () => {
  const kinds = new Set<string>();
  for (const name of names) {
    const [envelope, header] = framesOf(name) as [Buffer, Buffer];
    assert.deepEqual(encodeEnvelope(decodeEnvelope(envelope)), envelope, name);
    const message = decodeHeader(header);
    if (message !== null) {
      kinds.add(message.kind);
      const again = decodeHeader(encodeHeader(message.kind, message.body as never));
      assert.deepEqual(again, message, name);
    }
  }
  assert.ok(kinds.size >= 20, [...kinds].join());
});

test("the fields of a message have the values that its example gives them", { skip: !isHere }, () => {
  const hello = decodeHeader(framesOf("hello-client.bin")[1]!);
  assert.equal(hello?.kind, "hello");
  assert.equal(hello.body.role, 0);
  assert.equal(hello.body.incarnation.length, 16);
  const batch = decodeHeader(framesOf("task-batch.bin")[1]!);
  assert.equal(batch?.kind, "taskBatch");
  assert.ok(readU64(batch.body.numbers).length > 1);
});

test("a header that is cut off or changed is read, or is a ProtocolError", { skip: !isHere }, () => {
  let errors = 0;
  for (const name of names) {
    const header = framesOf(name)[1]!;
    for (let at = 0; at < header.length; at += 1) {
      for (const broken of [header.subarray(0, at), withByte(header, at, 0xff), withByte(header, at, 0x01)]) {
        try {
          decodeHeader(broken);
        } catch (error) {
          assert.ok(error instanceof ProtocolError, `${name} ${at}: ${String(error)}`);
          errors += 1;
        }
      }
    }
  }
  assert.ok(errors > 0);
});

test("content in other segments is found", () => {
  // Two segments: a far pointer to a landing pad in the second, and a text of "no" there.
  const frame = Buffer.alloc(8 * 8);
  frame.writeUInt32LE(1, 0);
  frame.writeUInt32LE(4, 4);
  frame.writeUInt32LE(2, 8);
  const [first, second] = [16, 16 + 4 * 8];
  frame.writeUInt32LE(0, first);
  frame.writeUInt32LE(2 + 1 * 0x10000, first + 4);
  frame.writeUInt16LE(2, first + 8);
  frame.writeUInt32LE(2, first + 24);
  frame.writeUInt32LE(1, first + 28);
  frame.writeUInt32LE(1, second);
  frame.writeUInt32LE(2 + 8 * 3, second + 4);
  frame.write("no", second + 8);
  assert.deepEqual(decodeHeader(frame), { kind: "refused", body: "no" });
});

function withByte(bytes: Buffer, at: number, value: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = value;
  return changed;
}
