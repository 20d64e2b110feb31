/** A first program: `node dist/examples/pricing.js tcp://127.0.0.1:2345`, with a cluster at that address. */

import { Client, RemoteTaskError } from "../src/index.js";

const client = await Client.connect(process.argv[2] ?? "tcp://127.0.0.1:2345", { name: "pricing" });
try {
  console.log(`2 + 3 = ${await client.submit<number>("operator:add", [2, 3])}`);

  // Many calls: at most 100 of them are in flight.
  const roots = await client.map<number>("math:sqrt", [1, 4, 9, 16], { inFlight: 100 });
  console.log(`square roots: ${roots.join(", ")}`);

  // Errors of Python come with their type, text and traceback.
  try {
    await client.submit("operator:truediv", [1, 0]);
  } catch (error) {
    if (!(error instanceof RemoteTaskError)) {
      throw error;
    }
    console.log(`failed as it should: ${error.pythonType}`);
  }

  // Whatever runs too long.
  const slow = client.submit("time:sleep", [3600]);
  setTimeout(() => slow.cancel(), 100);
  await slow.catch((error: Error) => console.log(`stopped: ${error.name}`));
} finally {
  await client.close();
}
