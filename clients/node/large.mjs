// Sends a request that is too large for a message, and reads its reply wherever it is.
//   node large.mjs 5000000
import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";
import { Objm } from "@nats-io/obj";

const url = process.env.DSPEX_NATS_URL ?? "nats://127.0.0.1:4222";
const prefix = process.env.DSPEX_PREFIX ?? "dspex";
const size = Number(process.argv[2] ?? "5000000");
const inline = 256 * 1024;
const timeout = 60_000;

// A large body is an object, and Dspex-Body its name. "accept" says that the reply may
// be one too.
async function pack(store, body, sent) {
  const data = new TextEncoder().encode(JSON.stringify(body));
  if (data.length <= inline) {
    sent.set("Dspex-Body", "accept");
    return data;
  }
  const name = `default.${randomUUID()}`;
  await store.putBlob({ name }, data);
  sent.set("Dspex-Body", name);
  return "";
}

async function unpack(store, message) {
  const name = message.headers?.get("Dspex-Body");
  if (!name) return message.json();
  return JSON.parse(new TextDecoder().decode(await store.getBlob(name)));
}

async function ask(nats, operation, body) {
  const store = await new Objm(nats).open(`${prefix}_blobs`);
  const sent = headers();
  sent.set("Dspex-Deadline", String(Date.now() + timeout));
  const data = await pack(store, body, sent);
  const subject = `${prefix}.v1.call.${operation}`;
  const reply = await nats.request(subject, data, { headers: sent, timeout });
  const said = await unpack(store, reply);
  if (said.type === "failed") throw new Error(`${said.code}: ${said.message} ${said.hint}`);
  return said.outputs;
}

let nats;
try {
  nats = await connect({ servers: url });
  const text = "x".repeat(size);
  const outputs = await ask(nats, "signature.validate", {
    signature: "text -> answer",
    values: { text },
    side: "inputs",
  });
  console.log(`${outputs.values.text.length} characters came back`);
  console.log(outputs.values.text === text ? "the same" : "others");
} catch (error) {
  console.error(`${error.message} (NATS server: ${url})`);
  process.exitCode = 1;
} finally {
  await nats?.drain();
}
