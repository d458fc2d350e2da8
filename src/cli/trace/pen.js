// Strokes and texts on the canvas that `pen` draws on.

const font = (size) => `${size}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`;

function line(x0, y0, x1, y1, colour, thick) {
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function head(x0, y0, x1, y1, colour, size) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - size * Math.cos(angle - 0.42), y1 - size * Math.sin(angle - 0.42));
  pen.lineTo(x1 - size * Math.cos(angle + 0.42), y1 - size * Math.sin(angle + 0.42));
  pen.fill();
}

function cross(x, y, colour, size) {
  line(x - size, y - size, x + size, y + size, colour, 2.2);
  line(x - size, y + size, x + size, y - size, colour, 2.2);
}

function dot(x, y, size, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, size, 0, 7);
  pen.fill();
}

function ring(x, y, size, colour) {
  dot(x, y, size, colours.paper);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.8;
  pen.stroke();
}

function diamond(x, y, size, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(x, y - size);
  pen.lineTo(x + size, y);
  pen.lineTo(x, y + size);
  pen.lineTo(x - size, y);
  pen.fill();
}

// Text on one line, left out where there is other text.
function write(x, y, text, { colour, bold = false, italic = false, right = false, room = 600 }) {
  pen.font = `${italic ? "italic " : ""}${bold ? "bold " : ""}${font(11)}`;
  const shown = fitting(text, Math.min(room, right ? x - AXIS : view.width - x - 6));
  if (!shown) return;
  const width = pen.measureText(shown).width;
  const start = right ? x - width : x;
  if (y < HEAD + 6 || !labels.claim(start, y, width, 0)) return;
  const ink = pen.globalAlpha;
  pen.globalAlpha = 0.75 * ink;
  pen.fillStyle = colours.paper;
  pen.fillRect(start - 2, y - 7, width + 4, 14);
  pen.globalAlpha = ink;
  halo(shown, start, y, colour);
}

// A pale edge keeps text readable over lines.
function halo(text, x, y, colour) {
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.strokeStyle = colours.paper;
  pen.lineWidth = 3.5;
  pen.strokeText(text, x, y);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

// ---- texts ----

// Where there is text already, in cells of 6 by 6 pixels: a label that would cover another one is left out.
class Labels {
  constructor(width, height) {
    this.columns = Math.ceil(width / 6);
    this.cells = new Uint8Array(this.columns * Math.ceil(height / 6));
  }
  // Cells along a line of text that begins at (x, y), 12 pixels high, at an angle.
  claim(x, y, length, angle) {
    const found = [];
    for (let along = 0; along <= length + 4; along += 5) {
      for (const off of [-5, 0, 5]) {
        const cx = Math.floor((x + along * Math.cos(angle) - off * Math.sin(angle)) / 6);
        const cy = Math.floor((y + along * Math.sin(angle) + off * Math.cos(angle)) / 6);
        if (cx < 0 || cx >= this.columns) return false;
        const cell = cy * this.columns + cx;
        if (cell < 0 || cell >= this.cells.length) continue;
        if (this.cells[cell]) return false;
        found.push(cell);
      }
    }
    found.forEach((cell) => (this.cells[cell] = 1));
    return true;
  }
}

// The longest beginning of a text that fits, cut at a space where that costs little; empty if little would be left.
function fitting(text, room) {
  if (pen.measureText(text).width <= room) return text;
  let low = 0, high = Math.min(text.length, 200);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle; else high = middle - 1;
  }
  const cut = text.slice(0, low), space = cut.lastIndexOf(" ");
  if (low < 6) return "";
  return space > low * 0.7 ? `${cut.slice(0, space)} …` : `${cut}…`;
}
