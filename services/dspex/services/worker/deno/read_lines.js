// The one function that DSPy's sandbox takes from Deno's standard library, so that a
// worker needs no more of the internet than a registry of npm packages.

/** Yields what a reader gives, line by line. */
export async function* readLines(reader) {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(64 * 1024);
  let rest = "";
  for (let count; (count = await reader.read(chunk)) !== null; ) {
    rest += decoder.decode(chunk.subarray(0, count), { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop();
    yield* lines;
  }
  if (rest) yield rest;
}
