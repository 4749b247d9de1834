// What the page gives away: the request as code, and files.

/** The request of the page as code in a language. `locked`: true if the service asks for a key. */
function requestCode(language, { url, name, kind, locked }) {
  const address = `${url}?mask=float32`;
  const text = JSON.stringify;
  const shell = (value) => `'${value.replaceAll("'", "'\\''")}'`;
  const codes = {
    curl: [
      `curl --fail-with-body --compressed ${shell(address)}`,
      `    --data-binary ${shell(`@${name}`)} -H ${shell(`Content-Type: ${kind}`)}`,
      ...(locked ? ['    -H "X-API-Key: $SEGMENT_KEY"'] : []),
    ].join(" \\\n"),
    javascript: [
      `const answer = await fetch(${text(address)}, {`,
      '  method: "POST",',
      "  body: photo, // a File or a Blob",
      `  headers: {"Content-Type": ${text(kind)}${locked ? ', "X-API-Key": key' : ""}},`,
      "});",
      "const result = await answer.json();",
      "if (!answer.ok) throw new Error(result.detail);",
      "console.log(result.instances);",
    ].join("\n"),
    python: [
      ...(locked ? ["import os", ""] : []),
      "import requests",
      "",
      `with open(${text(name)}, "rb") as photo:`,
      "    answer = requests.post(",
      `        ${text(url)},`,
      "        data=photo,",
      '        params={"mask": "float32"},',
      `        headers={"Content-Type": ${text(kind)}${locked ? ', "X-API-Key": os.environ["SEGMENT_KEY"]' : ""}},`,
      "        timeout=60,",
      "    )",
      "if not answer.ok:",
      '    raise SystemExit(answer.json()["detail"])',
      'for instance in answer.json()["instances"]:',
      '    print(instance["label"], instance["score"], instance["box"])',
    ].join("\n"),
  };
  return `${codes[language]}\n`;
}

/** Objects as an SVG drawing, as large as the photograph. */
function svgOf(objects, { width, height }) {
  const escape = (text) => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
  const paths = objects.map((one) => `  <path d="${one.d}" stroke="${one.dark}"><title>${escape(one.name)}</title></path>\n`);
  const look = 'fill="none" stroke-width="2" stroke-linejoin="round"';
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ${look}>`;
  return new Blob([`${head}\n${paths.join("")}</svg>\n`], { type: "image/svg+xml" });
}

/** Offer a Blob as a file. */
function offer(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
