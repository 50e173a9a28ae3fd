package atoll;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** ZMTP 3.0, listening side, NULL security, over unix sockets (ZeroMQ RFC 23). One thread per peer. */
final class Zmtp {
    private static final int MORE = 1, LONG = 2, COMMAND = 4;

    /** What arrives: the parts of a message, and whom to answer. */
    interface Receiver {
        void receive(List<byte[]> parts, Peer sender) throws IOException;
    }

    /** A connection. `send` waits until the operating system has taken all. */
    static final class Peer {
        private final SocketChannel channel;

        Peer(SocketChannel channel) {
            this.channel = channel;
        }

        synchronized void send(byte[] data) throws IOException {
            ByteBuffer buffer = ByteBuffer.wrap(data);
            while (buffer.hasRemaining()) channel.write(buffer);
        }
    }

    private Zmtp() {}

    /** Serves the socket at `path` in threads of its own. A peer that breaks the protocol is let go. */
    static void listen(String path, String socketType, Receiver receiver) throws IOException {
        ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        server.bind(UnixDomainSocketAddress.of(path));
        daemon("accept " + socketType, () -> {
            while (true) {
                SocketChannel channel = server.accept();
                daemon("peer " + socketType, () -> serve(channel, socketType, receiver));
            }
        });
    }

    interface Work {
        void run() throws IOException;
    }

    static void daemon(String name, Work work) {
        Thread thread = new Thread(null, () -> {
            try {
                work.run();
            } catch (IOException error) {
                // the other end has gone
            }
        }, name, 256 * 1024);
        thread.setDaemon(true);
        thread.start();
    }

    private static void serve(SocketChannel channel, String socketType, Receiver receiver) throws IOException {
        try (channel) {
            Peer peer = new Peer(channel);
            peer.send(greeting());
            peer.send(ready(socketType));
            InputStream raw = Channels.newInputStream(channel);
            DataInputStream in = new DataInputStream(new java.io.BufferedInputStream(raw, 1 << 16));
            in.skipNBytes(greeting().length);
            List<byte[]> parts = new ArrayList<>();
            while (true) {
                int flags = in.readUnsignedByte();
                long size = (flags & LONG) != 0 ? in.readLong() : in.readUnsignedByte();
                byte[] body = in.readNBytes(Math.toIntExact(size));
                if ((flags & COMMAND) != 0) continue;
                parts.add(body);
                if ((flags & MORE) == 0) {
                    receiver.receive(parts, peer);
                    parts = new ArrayList<>();
                }
            }
        }
    }

    static byte[] encode(List<byte[]> parts) {
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            DataOutputStream data = new DataOutputStream(out);
            for (int index = 0; index < parts.size(); index++) {
                byte[] part = parts.get(index);
                int flags = index < parts.size() - 1 ? MORE : 0;
                data.writeByte(part.length > 255 ? flags | LONG : flags);
                if (part.length > 255) data.writeLong(part.length);
                else data.writeByte(part.length);
                data.write(part);
            }
            return out.toByteArray();
        } catch (IOException error) {
            throw new IllegalStateException(error);  // not of memory
        }
    }

    private static byte[] greeting() {
        byte[] greeting = new byte[64];
        greeting[0] = (byte) 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        System.arraycopy(bytes("NULL"), 0, greeting, 12, 4);
        return greeting;
    }

    private static byte[] ready(String socketType) {
        ByteBuffer body = ByteBuffer.allocate(64).put((byte) 5).put(bytes("READY"));
        property(body, "Socket-Type", socketType);
        property(body, "Identity", "");
        byte[] frame = new byte[2 + body.position()];
        frame[0] = COMMAND;
        frame[1] = (byte) body.position();
        System.arraycopy(body.array(), 0, frame, 2, body.position());
        return frame;
    }

    private static void property(ByteBuffer out, String name, String value) {
        out.put((byte) name.length()).put(bytes(name)).putInt(value.length()).put(bytes(value));
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
