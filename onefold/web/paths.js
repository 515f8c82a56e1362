/**
 * Paths as the API spells them: bytes, percent-encoded, names joined by `/`; "" is the folder itself. Names need not be
 * UTF-8, so a path that came from the API is kept as it came, and only decoded to be shown.
 */

const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const NAME_BYTES_MAX = 255;

/** @param {string} href @returns {string} the directory that holds it */
export function parentOf(href) {
  return href.slice(0, Math.max(href.lastIndexOf("/"), 0));
}

/** @param {string} href @returns {string} its last name, still encoded */
export function lastOf(href) {
  return href.slice(href.lastIndexOf("/") + 1);
}

/** @param {string} directory @param {string} name encoded */
export function childOf(directory, name) {
  return directory ? `${directory}/${name}` : name;
}

/** Whether `href` is `directory`, or inside it. @param {string} href @param {string} directory */
export function within(href, directory) {
  return href === directory || directory === "" || href.startsWith(`${directory}/`);
}

/** What a person typed, as a path. @param {string} text @returns {string} */
export function encoded(text) {
  return text.split("/").filter(Boolean).map(encodeURIComponent).join("/");
}

/** Why what a person typed is no name; "" when it is one. @param {string} name */
export function wrongName(name) {
  if (!name) return "Type a name.";
  if (name === "." || name === "..") return "That name means a place, not a file: choose another.";
  if (name.includes("/")) return "A name holds no “/”.";
  if (name.includes("\0") || !name.isWellFormed()) return "That name holds a character that no file name can hold.";
  if (new TextEncoder().encode(name).length > NAME_BYTES_MAX) return "That name is too long: 255 bytes at most.";
  return "";
}

/**
 * For a person to read: UTF-8 where it is, `\xNN` where it is not, and escapes for what would be invisible or would steer
 * the text around it. As `onefold.core.paths.show`.
 * @param {string} href
 */
export function shown(href) {
  let text;
  try {
    text = decodeURIComponent(href);
  } catch {
    text = decodedInParts(href);
  }
  return text.replace(HIDDEN, escaped);
}

function escaped(character) {
  const code = character.codePointAt(0);
  const named = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
  if (named) return named;
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Every run of bytes that is a character, and `\xNN` for each other byte. */
function decodedInParts(href) {
  return href.replace(/(?:%[0-9A-Fa-f]{2})+/g, (run) => {
    const bytes = Uint8Array.from(run.slice(1).split("%"), (hex) => Number.parseInt(hex, 16));
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let text = "";
    for (let at = 0; at < bytes.length; ) {
      const wanted = bytes[at] < 0x80 ? 1 : bytes[at] < 0xe0 ? 2 : bytes[at] < 0xf0 ? 3 : 4;
      try {
        if (at + wanted > bytes.length) throw new TypeError("cut");
        text += strict.decode(bytes.subarray(at, at + wanted));
        at += wanted;
      } catch {
        text += `\\x${bytes[at].toString(16).padStart(2, "0")}`;
        at += 1;
      }
    }
    return text;
  });
}
