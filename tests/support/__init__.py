"""What the tests stand on: an MQTT codec, a client and the broker as a process.

packets      the standard in plain Python: bytes <-> frozen dataclasses, 3.1, 3.1.1 and 5.0. It shares no line with
             rookery.core and is slow and simple on purpose: the twin that the compiled codec is compared with.
mqtt_client  a raw client on trio that sends what it is told and shows what it gets
process      a broker as a child process: start, addresses, signals, exit code, output

The suite checks itself against another broker: `ROOKERY_TEST_BROKER=mosquitto pytest tests/clients` starts mosquitto in
Rookery's place and skips what only Rookery can do. `ROOKERY_TEST_SHARDS=3 pytest` gives every started Rookery three
shards.
"""
