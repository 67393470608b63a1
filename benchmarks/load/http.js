// A server that answers with what lies in its memory, and a client that asks for it, checks every answer, and measures:
//   node http.js serve SOCKET
//   node http.js ask service|nginx SOCKET|PORT SECONDS CONNECTIONS     service: this one and Service.java
//   node http.js conf FOLDER SOCKET                                    an nginx.conf, of which nginx serves the answers
//
// A block is 256 pages of 4,096 bytes, each with content that it has alone: the digest of its name, over and over.
//   service   /BLOCK/WINDOW/BYTE: BYTE becomes the first of page BLOCK of block BLOCK, then a window of 16 pages is digested;
//             the answer is the digest and the first two pages of the window
//   nginx     /BLOCK/PAGE: the page's digest in hexadecimal, 62 times
// A block is asked for by one connection at a time, which writes 0 and 1 by turns and therefore knows what lies there.
const crypto = require('crypto'), fs = require('fs'), http = require('http'), net = require('net');
const pageBytes = 4096, pages = 256, windowPages = 16, windows = pages / windowPages;
const serviceBlocks = 200, nginxBlocks = 64; // 200 and 62 MiB
const digestOf = (block, page) => crypto.createHash('sha256').update(`${block}/${page}`).digest();
const nginxAnswer = (block, page) => digestOf(block, page).toString('hex').repeat(62);

function fill(block, first, count) {
  const bytes = Buffer.alloc(count * pageBytes);
  for (let page = 0; page < count; page++) {
    bytes.fill(digestOf(block, first + page), page * pageBytes, (page + 1) * pageBytes);
  }
  return bytes;
}

const serviceAnswer = window =>
  Buffer.concat([Buffer.from(crypto.createHash('sha1').update(window).digest('hex')), window.subarray(0, 2 * pageBytes)]);

function serve(socket) {
  const blocks = Array.from({length: serviceBlocks}, (_, block) => fill(block, 0, pages));
  http.createServer((request, response) => {
    const [, block, window, byte] = request.url.split('/').map(Number), bytes = blocks[block];
    bytes[block * pageBytes] = byte;
    response.end(serviceAnswer(bytes.subarray(window * windowPages * pageBytes, (window + 1) * windowPages * pageBytes)));
  }).listen(socket);
}

function conf(folder, socket) {
  const out = fs.openSync(`${folder}/nginx.conf`, 'w');
  fs.writeSync(out, `daemon off; pid ${folder}/pid; error_log stderr; user root; worker_processes 4;
events { worker_connections 64; }
http {
  access_log off; keepalive_requests 1000000000; map_hash_max_size 65536; map_hash_bucket_size 256;
  client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3; uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
  server { listen unix:${socket}; location / { return 200 $answer; } }
  map $uri $answer {
`);
  for (let block = 0; block < nginxBlocks; block++) {
    fs.writeSync(out, Array.from({length: pages}, (_, page) => `/${block}/${page} ${nginxAnswer(block, page)};\n`).join(''));
  }
  fs.writeSync(out, '  }\n}\n');
}

/** What each request is answered with, by the byte that it writes. Made before the first is sent. */
function answersOf(kind) {
  if (kind === 'nginx') {
    return Array.from({length: nginxBlocks}, (_, block) => Array.from({length: pages}, (_, page) => {
      const answer = Buffer.from(nginxAnswer(block, page));
      return [answer, answer];
    }));
  }
  return Array.from({length: serviceBlocks}, (_, block) => Array.from({length: windows}, (_, window) => {
    const bytes = fill(block, window * windowPages, windowPages);
    return [0, 1].map(byte => {
      if (Math.floor(block / windowPages) === window) bytes[block % windowPages * pageBytes] = byte;
      return serviceAnswer(bytes);
    });
  }));
}

function fail(what) {
  console.error(`http.js: ${what}`);
  process.exit(1);
}

function ask(kind, address, seconds, connections) {
  const answers = answersOf(kind), written = answers.map(() => 0), times = [];
  const end = performance.now() + 1000 * seconds;
  let open = connections;
  for (let connection = 0; connection < connections; connection++) {
    const mine = Math.floor((answers.length - connection - 1) / connections) + 1;
    const socket = net.connect(isNaN(address) ? {path: address} : {port: Number(address), noDelay: true});
    let block, part, start, had = Buffer.alloc(0);
    const next = () => {
      block = connection + connections * Math.floor(Math.random() * mine);
      part = Math.floor(Math.random() * answers[block].length);
      written[block] ^= 1;
      start = performance.now();
      socket.write(`GET /${block}/${part}${kind === 'nginx' ? '' : `/${written[block]}`} HTTP/1.1\r\nHost: load\r\n\r\n`);
    };
    socket.on('connect', next).on('data', bytes => {
      had = had.length ? Buffer.concat([had, bytes]) : bytes;
      const head = had.indexOf('\r\n\r\n');
      if (head < 0) return;
      const length = /^HTTP\/1\.1 200 .*\ncontent-length: *(\d+)/is.exec(had.latin1Slice(0, head));
      if (!length) fail(`/${block}/${part} was answered with ${had.latin1Slice(0, head)}`);
      if (had.length < head + 4 + Number(length[1])) return;
      const now = performance.now();
      times.push(now - start);
      if (!had.subarray(head + 4).equals(answers[block][part][written[block]])) fail(`/${block}/${part} was answered with what does not lie there`);
      had = Buffer.alloc(0);
      if (now < end) return next();
      socket.removeAllListeners('close').destroy();
      if (--open === 0) {
        times.sort((a, b) => a - b);
        console.log(`${(times.length / seconds).toFixed(0)} ${times[Math.floor(times.length * 0.99)].toFixed(3)}`);
      }
    }).on('error', error => fail(`${address}: ${error.message}`)).on('close', () => fail(`${address} hung up`));
  }
}

const [, , what, ...rest] = process.argv;
if (what === 'serve') serve(rest[0]);
else if (what === 'conf') conf(rest[0], rest[1]);
else ask(rest[0], rest[1], Number(rest[2]), Number(rest[3]));
