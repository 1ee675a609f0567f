"use strict";
// Search and filter of the examples. Texts come from data: they are set as text, never as markup.
for (const finder of document.querySelectorAll(".finder")) {
  const data = JSON.parse(finder.querySelector("script").textContent);
  const form = finder.querySelector(".find"), list = finder.querySelector("ul"), told = finder.querySelector(".told");
  const [words, label, a, b, more] = ["words", "label", "a", "b", "more"].map((name) => finder.querySelector(`.${name}`));
  let most = 20;
  const choice = (select, first, names) => {
    [first, ...names].forEach((name, place) => select.append(new Option(name, place ? place - 1 : "")));
  };
  choice(label, "any", data.labels);
  choice(a, "any method", data.methods);
  choice(b, "any method", data.methods);
  const add = (parent, tag, text, name) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    parent.append(made);
    return made;
  };
  const wanted = (row) => {
    const [id, text, truth, said] = row, sought = words.value.trim().toLowerCase();
    if (sought && !`${id} ${text}`.toLowerCase().includes(sought)) return false;
    if (label.value !== "" && truth !== +label.value) return false;
    if (a.value !== "" && said[+a.value] !== truth) return false;
    return b.value === "" || said[+b.value] !== truth;
  };
  const show = () => {
    const found = data.rows.filter(wanted);
    list.replaceChildren();
    for (const [id, text, truth, said, sure] of found.slice(0, most)) {
      const item = add(list, "li", "");
      add(item, "p", id, "id");
      if (text) add(item, "blockquote", text);
      const answers = add(item, "dl", "");
      const tell = (name, what, right) => {
        const pair = add(answers, "div", "");
        add(pair, "dt", name);
        add(pair, "dd", `${right === undefined ? "" : right ? "\u2713 " : "\u2717 "}${what}`);
      };
      tell("label", data.labels[truth]);
      data.methods.forEach((name, k) => {
        const per = sure[k] === null ? "" : ` (${sure[k]} %)`;
        tell(name, data.labels[said[k]] + per, said[k] === truth);
      });
    }
    told.textContent = `${found.length} of ${data.rows.length} examples, ${Math.min(most, found.length)} shown`;
    more.hidden = found.length <= most;
  };
  form.addEventListener("input", () => { most = 20; show(); });
  more.addEventListener("click", () => { most += 50; show(); });
  finder.hidden = false;
  show();
}
