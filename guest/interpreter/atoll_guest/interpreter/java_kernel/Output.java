package atoll;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * Standard output or error: a whole line goes out at once unless others are on their way, the rest a moment later. The
 * two share a lock, the publisher, and keep the order of what is written to them.
 */
final class Output extends OutputStream {
    private static final int ENOUGH = 64 * 1024;
    private static final int SOON_MS = 2;

    private final String name;
    private final Publisher publisher;
    private final ScheduledExecutorService clock;
    private final CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPLACE).onUnmappableCharacter(CodingErrorAction.REPLACE);
    private final ByteBuffer pending = ByteBuffer.allocate(ENOUGH);
    private boolean isScheduled;
    private Output other;

    Output(String name, Publisher publisher, ScheduledExecutorService clock) {
        this.name = name;
        this.publisher = publisher;
        this.clock = clock;
    }

    static void pair(Output first, Output second) {
        first.other = second;
        second.other = first;
    }

    @Override
    public void write(int value) throws IOException {
        write(new byte[] {(byte) value}, 0, 1);
    }

    @Override
    public void write(byte[] data, int start, int length) throws IOException {
        boolean hasLine = false;
        for (int index = start; index < start + length; index++) hasLine |= data[index] == '\n';
        synchronized (publisher) {
            other.send();
            for (int done = 0; done < length; ) {
                int piece = Math.min(length - done, pending.remaining());
                pending.put(data, start + done, piece);
                done += piece;
                if (!pending.hasRemaining()) send();
            }
            if (hasLine && publisher.isIdle()) send();
            else schedule();
        }
    }

    private void schedule() {
        if (isScheduled || pending.position() == 0) return;
        isScheduled = true;
        clock.schedule(this::send, SOON_MS, TimeUnit.MILLISECONDS);
    }

    /** All that makes whole characters. */
    void send() {
        synchronized (publisher) {
            isScheduled = false;
            if (pending.position() == 0) return;
            CharBuffer text = CharBuffer.allocate(pending.position());
            decoder.decode(pending.flip(), text, false);
            pending.compact();
            if (text.flip().hasRemaining()) publisher.publish("stream", Map.of("name", name, "text", text.toString()));
        }
    }
}
