// Answers the tests of the client: reads {task: [arguments, ...]} as JSON, prints the results as JSON.
import { readFileSync } from "node:fs";

import * as client from "../../../handler/page/client/index.js";

const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");

const tasks = {
  encode: ({ crop, image }) => client.encodeRle({ ...crop, data: bytes(crop.data) }, image).counts,
  decode: (mask) => text(client.decodeRle(mask).data),
  pixels: ({ instance, threshold, image }) => client.encodeRle(client.maskPixels(instance, threshold), image),
  outline: ({ instance, threshold }) => client.outline(instance, threshold),
  uploadSize: ({ size, resize }) => client.uploadSize(size, resize),
  svgPath: (rings) => client.svgPath(rings),
  refuse: (mask) => {
    try {
      return client.decodeRle(mask).width;
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  },
};

const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = Object.entries(asked).map(([task, given]) => [task, given.map(tasks[task])]);
process.stdout.write(JSON.stringify(Object.fromEntries(answers)));
