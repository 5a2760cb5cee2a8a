// Prints the cells as a table in Markdown.

const counted = ({ failed }) => {
  const hung = failed.filter(({ how }) => how === 'hung').length
  return `${failed.length}${hung > 0 ? ` (${hung} hung)` : ''}`
}

// A line for each app and kind, a column for each event; in each cell the contestants in their order.
export const table = (rows, events) => {
  const names = [...new Set(rows.map(({ contestant }) => contestant))]
  const lines = new Map()
  for (const row of rows) {
    const key = `${row.app}${row.graceful ? ', graceful' : ''}`
    lines.set(key, [...(lines.get(key) ?? []), row])
  }
  const column = (rows, event) =>
    names
      .map((name) => rows.find(({ contestant }) => contestant === name)?.cells.find((cell) => cell.event === event))
      .map((cell) => (cell ? counted(cell) : '–'))
      .join(' / ')
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [
    line([`failed requests: ${names.join(' / ')}`, ...events]),
    line(['---', ...events.map(() => '---')]),
    ...[...lines].map(([name, rows]) => line([name, ...events.map((event) => column(rows, event))])),
  ].join('\n')
}

// Totals of all requests of a contestant, and notes on its clients.
export const total = (rows, name) => {
  const own = rows.filter(({ contestant }) => contestant === name)
  const cells = own.flatMap(({ cells }) => cells)
  const sum = (count) => cells.reduce((sum, cell) => sum + count(cell), 0)
  const kinds = ['refused', 'reset', 'truncated', 'hung', 'wrong']
  const failed = kinds.map((kind) => `${sum(({ failed }) => failed.filter(({ how }) => how === kind).length)} ${kind}`)
  const counts = `${sum(({ answered }) => answered)} answered, ${failed.join(', ')}, ${sum(({ again }) => again)} asked again`
  const errors = own.filter(({ error }) => error).map(({ app, error }) => `\n${name}, ${app}: ${error}`)
  const seconds = (ms) => `${(ms / 1000).toFixed(0)} s`
  const late = `${Math.max(0, ...own.map(({ late = 0 }) => late))} ms at worst`
  const lost = `${seconds(sum(({ late }) => late))} of ${seconds(sum(({ took }) => took))} did not count`
  return `${name}: ${counts}; clients were late by ${late}, ${lost}${errors.join('')}`
}
