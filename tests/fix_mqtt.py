"""paho as the reference for our own MQTT: the same bytes in, the same bytes out."""

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from ingest.mqtt.packets import Version


class Wire:
    """A socket for paho: remembers what is sent, has what it is given."""

    def __init__(self):
        self.sent, self.waiting = bytearray(), bytearray()

    def send(self, data):
        self.sent += data
        return len(data)

    def recv(self, count):
        if not self.waiting:
            raise BlockingIOError
        data = bytes(self.waiting[:count])
        del self.waiting[:count]
        return data

    def close(self):
        pass


class Reference:
    """paho, with a wire in our hands."""

    def __init__(self, version):
        five = version is Version.V5
        self.heard, self.wire = [], Wire()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="c",
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else False,
            manual_ack=True,
        )
        self.client._sock = self.wire
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_answer
        self.client.on_unsubscribe = self._on_answer

    def _on_message(self, _client, _user, one):
        self.heard.append((one._topic, bytes(one.payload), one.dup, one.mid if one.qos else 0))

    def _on_answer(self, _client, _user, number, codes, _properties):
        self.heard.append((number, [code.value for code in codes]))

    def hear(self, data):
        """What paho makes of these bytes; whether it has found fault with them."""
        self.wire.waiting += data
        while self.wire.waiting:
            code = self.client._packet_read()
            if code not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}:
                return False
        return True

    def publish(self, topic, payload, qos, dup, number, properties):
        self.client._send_publish(
            number,
            topic.encode(),
            payload,
            qos,
            retain=False,
            dup=dup,
            info=paho.MQTTMessageInfo(number),
            properties=properties,
        )
