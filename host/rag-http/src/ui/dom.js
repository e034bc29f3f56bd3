// Makes elements. Text of documents, models and people only ever becomes text, never markup.

export const by = (id) => document.getElementById(id);

/** An element with properties, attributes (`data-…`, `aria-…`) and children; strings become text nodes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Shows an error above everything, or hides it. */
export function trouble(error) {
  const place = by("trouble");
  place.textContent = error ? error.message : "";
  place.hidden = !error;
}
