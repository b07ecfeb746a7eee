// Elements, made from plain text only: what a run says is never read as markup.

export function tag(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Sets a text only where it changes, so that a screen reader is told once.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A colour of the style sheet as the browser has resolved it, for a canvas.
export function colour(name) {
  const probe = colour.probe ?? (colour.probe = document.body.appendChild(tag("span", { hidden: true })));
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
