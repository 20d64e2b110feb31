/**
 * Does what tests in Python say, line by line of JSON on stdin, and answers with a line each:
 * [id, "connect" | "submit" | "wait" | "cancel" | "close", ...]. The argument {"task": name} is what an earlier "submit" returned.
 */

import { createInterface } from "node:readline";

import { Client, type ConnectOptions, type TaskPromise } from "../src/index.js";

const clients = new Map<string, Client>();
const tasks = new Map<string, TaskPromise<unknown>>();

function error(reason: unknown): { error: string; text: string } {
  const { name, message } = reason as Error;
  return { error: name, text: message };
}

function submit(client: string, task: string, name: string, args: unknown[]): void {
  const given = args.map((argument) => {
    const named = (argument as { task?: string } | null)?.task;
    return named === undefined ? argument : tasks.get(named);
  });
  const promise = clients.get(client)!.submit(name, given);
  promise.catch(() => undefined);
  tasks.set(task, promise);
}

async function wait(task: string): Promise<unknown> {
  try {
    return { value: await tasks.get(task) };
  } catch (reason) {
    return error(reason);
  }
}

async function obey(verb: string, rest: unknown[]): Promise<unknown> {
  switch (verb) {
    case "connect": {
      const [name, address, options] = rest as [string, string, ConnectOptions];
      clients.set(name, await Client.connect(address, options));
      return null;
    }
    case "submit": {
      const [client, task, name, args] = rest as [string, string, string, unknown[]];
      return submit(client, task, name, args);
    }
    case "wait":
      return wait(rest[0] as string);
    case "cancel":
      return tasks.get(rest[0] as string)!.cancel();
    case "close":
      return clients.get(rest[0] as string)!.close();
    default:
      throw new Error(`no verb ${verb}`);
  }
}

for await (const line of createInterface(process.stdin)) {
  const [id, verb, ...rest] = JSON.parse(line) as [number, string, ...unknown[]];
  void obey(verb, rest)
    .catch(error)
    .then((answer) => console.log(JSON.stringify([id, answer ?? null])));
}
