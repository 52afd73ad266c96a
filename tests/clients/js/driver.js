// MQTT.js, driven by lines of JSON: mqttjs_client.py writes requests to stdin and reads answers and events from stdout.
//
// request  {"id": 7, "client": 1, "do": "publish", ...}
// answer   {"id": 7, "answer": {...}}  or  {"id": 7, "error": "text"}
// event    {"client": 1, "message": {...}}  or  {"client": 1, "closed": 142 or null}
//
// Bytes travel as base64. Properties keep the names of MQTT.js; those of Buffer type are named in BYTES.

"use strict"

const mqtt = require("mqtt")
const readline = require("node:readline")

const BYTES = ["correlationData"]
const clients = new Map()

const actions = {
  connect(request) {
    return new Promise((resolve, reject) => {
      const client = mqtt.connect({ ...request.options, reconnectPeriod: 0, will: readWill(request.options.will) })
      let serverReason = null
      clients.set(request.client, client)
      client.on("message", (topic, payload, packet) => write({ client: request.client, message: writeMessage(packet) }))
      client.on("disconnect", (packet) => { serverReason = packet.reasonCode })
      client.on("close", () => write({ client: request.client, closed: serverReason }))
      client.once("connect", (connack) => resolve({ sessionPresent: connack.sessionPresent }))
      client.on("error", reject)
    })
  },

  async subscribe(request) {
    const client = clients.get(request.client)
    return new Promise((resolve, reject) => {
      client.subscribe(request.topicFilter, request.options, (error, granted, suback) => {
        // A refusal is an answer here, not an error: its code is in the SUBACK.
        if (suback) resolve({ reasonCode: suback.granted[0] })
        else reject(error)
      })
    })
  },

  async unsubscribe(request) {
    await clients.get(request.client).unsubscribeAsync(request.topicFilter)
  },

  async publish(request) {
    const client = clients.get(request.client)
    const publications = request.messages.map((message) => {
      const { qos, retain } = message
      const options = { qos, retain, properties: readProperties(message.properties) }
      return client.publishAsync(message.topic, Buffer.from(message.payload, "base64"), options)
    })
    await Promise.all(publications)
  },

  async disconnect(request) {
    await clients.get(request.client).endAsync()
  },

  drop(request) {
    clients.get(request.client).stream.destroy()
  },
}

function readWill(will) {
  return will && { ...will, payload: Buffer.from(will.payload, "base64"), properties: readProperties(will.properties) }
}

function readProperties(properties) {
  const read = { ...properties }
  for (const name of BYTES) if (name in read) read[name] = Buffer.from(read[name], "base64")
  return read
}

function writeMessage({ topic, payload, qos, retain, properties }) {
  const written = { ...properties }
  for (const name of BYTES) if (name in written) written[name] = written[name].toString("base64")
  return { topic, payload: Buffer.from(payload).toString("base64"), qos, retain, properties: written }
}

function write(line) {
  process.stdout.write(JSON.stringify(line) + "\n")
}

async function serve(request) {
  try {
    write({ id: request.id, answer: (await actions[request.do](request)) ?? {} })
  } catch (error) {
    write({ id: request.id, error: String(error) })
  }
}

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => serve(JSON.parse(line)))
  .on("close", () => process.exit(0))
