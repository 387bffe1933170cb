/** Owns the reading of an answer whose length another program decides. */

/** The answer is longer than it may be; `message` holds nothing of it. */
export class TooLong extends Error {}

/** @throws TooLong past so many bytes. */
export async function boundedText(response: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new TooLong(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
