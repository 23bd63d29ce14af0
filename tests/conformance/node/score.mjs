// Offers one function, a metric and a reward, until its standard input ends.
import { connect } from "@nats-io/transport-node";

const nats = await connect({ servers: process.env.DSPEX_NATS_URL });
nats.subscribe(process.env.TOOL_SUBJECT, {
  callback: (_, message) => {
    const { example, inputs, outputs } = message.json();
    const right = example?.answer ?? inputs.expected;
    message.respond(JSON.stringify({ score: outputs.answer === right ? 1 : 0 }));
  },
});
await nats.flush();
console.log("ready");
process.stdin.on("end", () => nats.drain());
process.stdin.resume();
