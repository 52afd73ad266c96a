// MQTT.js as a page has it: browser.py loads index.html and calls these. Arguments and results are JSON.

"use strict"

let client = null

// Resolves when the broker has accepted the connection, rejects when it has not.
async function connect(url, options) {
  client = await mqtt.connectAsync(url, { ...options, reconnectPeriod: 0 }, false)
}

// Sends what comes to topicFilter back to topic, with the QoS that it came with.
async function echo(topicFilter, topic) {
  client.on("message", (from, payload, packet) => client.publish(topic, payload, { qos: packet.qos }))
  const [granted] = await client.subscribeAsync(topicFilter, { qos: 2 })
  return granted.qos
}

async function disconnect() {
  await client.endAsync()
}
