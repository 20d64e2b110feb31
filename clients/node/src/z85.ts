/** Z85, ZeroMQ's text form of keys (RFC 32 of ZeroMQ): five characters for four bytes. */

const ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/** Return the bytes of a text. Throws RangeError for what is no Z85. */
export function z85Decode(text: string): Buffer {
  const digits = Array.from(text, (character) => ALPHABET.indexOf(character));
  if (digits.length % 5 !== 0 || digits.includes(-1)) {
    throw new RangeError("a key is a Z85 text of 40 characters");
  }
  const bytes = Buffer.alloc((digits.length / 5) * 4);
  for (let at = 0; at < digits.length; at += 5) {
    bytes.writeUInt32BE(
      digits.slice(at, at + 5).reduce((sum, digit) => sum * 85 + digit, 0),
      (at / 5) * 4,
    );
  }
  return bytes;
}
