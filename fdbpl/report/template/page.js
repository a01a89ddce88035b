// Tables are sorted by a click on a column's head.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
// One field filters the rows of all tables: each word must be in the row's name or in the table's title.
const tables = document.getElementById("tables");
if (tables) {
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "Filter rows, e.g. FDBPL dtd";
  field.setAttribute("aria-label", "Filter the rows of the tables");
  tables.querySelector("h2").after(field);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const table of tables.querySelectorAll(".card table")) {
      for (const row of table.tBodies[0].rows) {
        const text = `${table.caption.textContent} ${row.cells[0].textContent}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      table.closest(".card").hidden = [...table.tBodies[0].rows].every((row) => row.hidden);
    }
  });
}
// A link into closed details opens them; printing opens all.
const reveal = () => {
  const details = document.getElementById(location.hash.slice(1))?.closest("details");
  if (details) details.open = true;
};
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
