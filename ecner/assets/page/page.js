// Long tables: a click on a head sorts by its column, words typed above a table filter its rows.
"use strict";
for (const figure of document.querySelectorAll("figure.long")) {
  const table = figure.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = `filter ${rows.length} rows`;
  field.setAttribute("aria-label", "show only rows with these words");
  field.addEventListener("input", () => {
    for (const row of rows) row.hidden = !plain(row.textContent).includes(plain(field.value.trim()));
  });
  table.parentElement.before(field);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isNumber = rows[0]?.cells[column].className === "number";
      const falls = head.ariaSort ? head.ariaSort === "ascending" : isNumber;
      const value = (row) => row.cells[column].textContent;
      const number = (row) => parseFloat(value(row).replaceAll(",", "").replace("over ", ""));
      const order = isNumber ? (a, b) => number(a) - number(b) : (a, b) => value(a).localeCompare(value(b), "zh");
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const told = rows.filter((row) => value(row) !== "").sort((a, b) => (falls ? order(b, a) : order(a, b)));
      body.append(...told, ...rows.filter((row) => value(row) === ""));
    });
  });
}
