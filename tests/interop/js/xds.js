// Calls xds:///hello_service with grpc-js's own xDS client, an implementation of its own.
// Lines in, a line of JSON out for each:
//
//   call 20 x-canary=1    who answered how many of 20 calls, and the errors
//   wait 5                who answered a call that waits until it can be sent

const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');

require('@grpc/grpc-js-xds').register();

const client = new grpc.Client('xds:///hello_service', grpc.credentials.createInsecure());

// A HelloReply has one field, a text: its tag, its length, its bytes.
const greeting = (bytes) => bytes.subarray(2).toString();

function sayHello(headers, options) {
  const metadata = new grpc.Metadata(options);
  for (const [name, value] of headers) metadata.add(name, value);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      '/helloworld.Greeter/SayHello', () => Buffer.alloc(0), greeting, {}, metadata,
      { deadline: Date.now() + options.seconds * 1000 },
      (error, reply) =>
        resolve(error ? `${grpc.status[error.code]}: ${error.details}` : reply),
    );
  });
}

async function call(count, ...pairs) {
  const found = {};
  for (let number = 0; number < count; number++) {
    const who = await sayHello(pairs.map((pair) => pair.split('=')), { seconds: 10 });
    found[who] = (found[who] ?? 0) + 1;
  }
  return found;
}

async function wait(seconds) {
  const began = performance.now();
  const who = await sayHello([], { seconds, waitForReady: true });
  return { who, seconds: (performance.now() - began) / 1000 };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(' ');
    console.log(JSON.stringify(await { call, wait }[command](...words)));
  }
  process.exit(0);
}

main();
