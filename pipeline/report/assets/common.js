// What both pages share: their data, elements made from text, and numbers as they are written.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** Make an element; children are elements or text, and text is never read as markup. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

/** Make an element of SVG. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
}

/** Make text of a user, which may be written from right to left. */
function words(text) {
  return make("bdi", {}, String(text));
}

const minus = (text) => text.replace("-", "−");
const percent = (value, digits = 2) => minus((100 * value).toFixed(digits));
const points = (value) => (value > 0 ? "+" : "") + percent(value);
const whole = (value) => value.toLocaleString("en");

/** Fill a list of choices: pairs of value and text. */
function offer(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, text]) => make("option", { value }, text)));
  if (chosen !== undefined) select.value = chosen;
}

/** Shorten text to be a label in a chart. */
function short(text, length = 34) {
  const letters = Array.from(text);
  return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : text;
}
