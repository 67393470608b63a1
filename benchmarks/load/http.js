// A server that answers with blocks of its memory, and a client that asks for them and measures:
//   node http.js serve SOCKET          node http.js ask SOCKET SECONDS CONNECTIONS
const http = require('http'), crypto = require('crypto');
const [, , what, path, seconds, connections] = process.argv;
if (what === 'serve') {
  const blocks = [];
  for (let i = 0; i < 128; i++) {
    const seed = crypto.createHash('sha256').update(String(i)).digest(), block = Buffer.alloc(1 << 20);
    for (let at = 0; at < block.length; at += 32) seed.copy(block, at);
    blocks.push(block);
  }
  let turn = 0;
  http.createServer((request, response) => {
    const block = blocks[turn++ % blocks.length];
    block[(turn * 4096) % block.length] ^= 1; // a page of it becomes another
    const sum = crypto.createHash('sha1').update(block.subarray(0, 65536)).digest('hex');
    response.end(sum + block.subarray(0, 8192).toString('latin1'));
  }).listen(path, () => console.log('ready'));
} else {
  const agent = new http.Agent({keepAlive: true, maxSockets: Number(connections)}), times = [];
  const end = Date.now() + 1000 * Number(seconds);
  const ask = () => new Promise((resolve, reject) => {
    const start = process.hrtime.bigint();
    http.get({socketPath: path, path: '/', agent}, response => {
      response.resume();
      response.on('end', () => { times.push(Number(process.hrtime.bigint() - start) / 1e6); resolve(); });
    }).on('error', reject);
  });
  const line = async () => { while (Date.now() < end) await ask(); };
  Promise.all(Array.from({length: Number(connections)}, line)).then(() => {
    times.sort((a, b) => a - b);
    console.log(`${(times.length / Number(seconds)).toFixed(0)} ${times[Math.floor(times.length * 0.99)].toFixed(3)}`);
    process.exit(0);
  });
}
