// How many visible texts there are, and those of too little contrast (WCAG 2.2). The body of a function.
const parse = (text) => {
  const numbers = (text.match(/-?[\d.]+(?:e-?\d+)?/g) ?? []).map(Number);
  const scale = text.startsWith('color(srgb') ? 255 : 1;
  const [r, g, b] = numbers.slice(0, 3).map((part) => part * scale);
  return { r, g, b, a: numbers[3] ?? 1 };
};
const over = (top, under) => {
  const mixed = (part) => top[part] * top.a + under[part] * (1 - top.a);
  return { r: mixed('r'), g: mixed('g'), b: mixed('b'), a: 1 };
};
const light = ({ r, g, b }) => [r, g, b].map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const ratio = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    layers.push(parse(getComputedStyle(each).backgroundColor));
    if (each.tagName === 'DIALOG') break;
  }
  return layers.reverse().reduce((under, layer) => over(layer, under), { r: 255, g: 255, b: 255, a: 1 });
};
const open = [...document.querySelectorAll('dialog[open]')].pop();
const walker = document.createTreeWalker(open ?? document.body, NodeFilter.SHOW_TEXT);
const poor = [];
let seen = 0;
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim();
  const element = walker.currentNode.parentElement;
  const visible = element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  if (!text || !visible || element.closest('.unseen, script, title, noscript')) continue;
  const style = getComputedStyle(element);
  const below = behind(element);
  const ink = over(parse(element instanceof SVGElement ? style.fill : style.color), below);
  const pixels = parseFloat(style.fontSize);
  const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
  const found = ratio(ink, below);
  seen += 1;
  if (found < (large ? 3 : 4.5)) poor.push(`${found.toFixed(2)}: ${text.slice(0, 40)}`);
}
return [seen, poor];
