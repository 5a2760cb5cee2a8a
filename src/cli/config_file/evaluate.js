// Evaluates a config file and writes what it exports, as JSON, to a file descriptor of its own: standard output
// belongs to the config, which may print.
const [fd, file, env] = process.argv.slice(1);
(async () => {
  const module = await import(require('url').pathToFileURL(file));
  let value = 'default' in module ? module.default : { ...module };
  if (value?.__esModule && value.default) value = value.default;
  if (typeof value === 'function') value = value(env || undefined);
  const json = Buffer.from(JSON.stringify(await value) ?? 'null');
  for (let at = 0; at < json.length; ) at += require('fs').writeSync(Number(fd), json, at);
  process.exit(0);
})().catch((error) => {
  // Node itself shows the place of a syntax error, which is not in its stack.
  if (error instanceof SyntaxError) throw error;
  console.error(error?.stack ?? error);
  process.exit(1);
});
