// Offers one function until its standard input ends.
import { connect } from "@nats-io/transport-node";

const nats = await connect({ servers: process.env.DSPEX_NATS_URL });
nats.subscribe(process.env.TOOL_SUBJECT, {
  callback: (_, message) => {
    const { city } = message.json();
    message.respond(JSON.stringify({ city, mm: city.length * 2 }));
  },
});
await nats.flush();
console.log("ready");
process.stdin.on("end", () => nats.drain());
process.stdin.resume();
