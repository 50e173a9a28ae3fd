package atoll;

import java.io.IOException;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;

/**
 * What goes to the listeners of the output channel, each message of the request that runs.
 *
 * A thread of its own writes: an interrupt of a thread of the user's that is just writing would close the channel. A
 * slow reader makes who publishes wait.
 */
final class Publisher {
    private static final byte[] DELIMITER = Zmtp.bytes("<IDS|MSG>");
    private static final int WAITING = 8;

    private final List<Zmtp.Peer> peers = new CopyOnWriteArrayList<>();
    private final BlockingQueue<byte[]> queue = new ArrayBlockingQueue<>(WAITING);
    private volatile String parent = "{}";
    private volatile boolean isSilent;

    Publisher(String path) throws IOException {
        Zmtp.listen(path, "PUB", (parts, peer) -> {
            if (!peers.contains(peer)) peers.add(peer);
        });
        Zmtp.daemon("output", this::writeAll);
    }

    void begin(String request, boolean silent) {
        parent = request;
        isSilent = silent;
    }

    /** Unless the request is a silent one. */
    void publish(String kind, Map<String, ?> content) {
        if (!isSilent) put(kind, content);
    }

    /** Nothing waits to be written. */
    boolean isIdle() {
        return queue.isEmpty();
    }

    void publishState(String state) {
        put("status", Map.of("execution_state", state));
    }

    private void put(String kind, Map<String, ?> content) {
        List<byte[]> parts = new ArrayList<>(List.of(Zmtp.bytes(kind)));
        parts.addAll(frames(kind, content));
        byte[] data = Zmtp.encode(parts);
        boolean isInterrupted = false;
        while (true) {
            try {
                queue.put(data);
                break;
            } catch (InterruptedException error) {
                isInterrupted = true;  // nothing is lost by an interrupt
            }
        }
        if (isInterrupted) Thread.currentThread().interrupt();
    }

    private void writeAll() {
        while (true) {
            try {
                byte[] data = queue.take();
                for (Zmtp.Peer peer : peers) write(peer, data);
            } catch (InterruptedException error) {
                // nobody means this thread
            }
        }
    }

    private void write(Zmtp.Peer peer, byte[] data) {
        try {
            peer.send(data);
        } catch (IOException error) {
            peers.remove(peer);
        }
    }

    /** A message's frames from the delimiter on; unsigned, as only this user may open the sockets. */
    List<byte[]> frames(String kind, Map<String, ?> content) {
        Map<String, String> header = Map.of(
            "msg_id", UUID.randomUUID().toString(), "msg_type", kind, "session", "java", "username", "user",
            "date", OffsetDateTime.now(ZoneOffset.UTC).toString(), "version", "5.3");
        return List.of(
            DELIMITER, new byte[0], Zmtp.bytes(Json.write(header)), Zmtp.bytes(parent), Zmtp.bytes("{}"),
            Zmtp.bytes(Json.write(content)));
    }
}
