package atoll;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledExecutorService;

/** `java -cp CLASSES atoll.Main CONNECTION_FILE`: a Jupyter kernel for one client at a time, until killed. */
public final class Main {
    private static final byte[] DELIMITER = Zmtp.bytes("<IDS|MSG>");
    private static final Map<String, ?> INFO = Map.of(
        "status", "ok", "protocol_version", "5.3", "implementation", "atoll_java", "implementation_version", "1",
        "language_info", Map.of(
            "name", "java", "version", System.getProperty("java.version"), "mimetype", "text/x-java",
            "file_extension", ".java"),
        "banner", "JShell");

    private record Request(List<byte[]> parts, Zmtp.Peer sender) {}

    private final Publisher publisher;
    private final Output out;
    private final Output err;
    private final Evaluator evaluator;
    private int count;

    private Main(String sockets, Map<String, Object> connection) throws IOException {
        publisher = new Publisher(sockets + connection.get("iopub_port"));
        ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(work -> {
            Thread thread = new Thread(work, "clock");
            thread.setDaemon(true);
            return thread;
        });
        out = new Output("stdout", publisher, clock);
        err = new Output("stderr", publisher, clock);
        Output.pair(out, err);
        System.setIn(new NoInput());
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Notebook.shown = data -> {
            flush();
            publisher.publish("display_data", Map.of("data", data, "metadata", Map.of(), "transient", Map.of()));
        };
        evaluator = new Evaluator(System.getProperty("java.class.path"));
    }

    /** Nobody is asked: a program that reads is told so. */
    private static final class NoInput extends InputStream {
        @Override
        public int read() throws IOException {
            throw new IOException("input is not supported here: pass values in the code or in a file");
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 0) {
            rehearse();
            return;
        }
        Map<String, Object> connection = Json.object(Files.readString(Path.of(arguments[0])));
        String sockets = connection.get("ip") + "-";
        LinkedBlockingQueue<Request> requests = new LinkedBlockingQueue<>();
        Main kernel = new Main(sockets, connection);
        Zmtp.listen(sockets + connection.get("control_port"), "ROUTER", kernel::control);
        Zmtp.listen(sockets + connection.get("shell_port"), "ROUTER", (parts, peer) -> requests.add(new Request(parts, peer)));
        while (true) {
            Request request = requests.take();
            kernel.serve(request.parts, request.sender);
        }
    }

    /** What the archive of classes is made from: a start, a cell, an error. */
    private static void rehearse() throws Exception {
        String folder = Files.createTempDirectory("rehearsal").toString();
        Main kernel = new Main(folder + "/", Map.of("iopub_port", 1));
        kernel.execute(Map.of("code", "int x = 1; System.out.println(x); x + 1"));
        kernel.execute(Map.of("code", "throw new IllegalStateException(\"x\");"));
        kernel.execute(Map.of("code", "render(\"x\", \"text/html\")"));
        System.exit(0);
    }

    private void control(List<byte[]> parts, Zmtp.Peer sender) throws IOException {
        String kind = String.valueOf(Json.object(text(parts, 2)).get("msg_type"));
        if (kind.equals("interrupt_request")) evaluator.interrupt();
        answer(sender, kind.replace("_request", "_reply"), Map.of("status", "ok"));
    }

    private void serve(List<byte[]> parts, Zmtp.Peer sender) {
        String header = text(parts, 2);
        String kind = String.valueOf(Json.object(header).get("msg_type"));
        Map<String, Object> content = Json.object(text(parts, 5));
        publisher.begin(header, Boolean.TRUE.equals(content.get("silent")));
        publisher.publishState("busy");
        Map<String, ?> reply = switch (kind) {
            case "kernel_info_request" -> INFO;
            case "execute_request" -> execute(content);
            default -> Map.of("status", "error", "ename", "NotSupported");
        };
        try {
            answer(sender, kind.replace("_request", "_reply"), reply);
        } catch (IOException error) {
            // who asked has gone
        }
        publisher.publishState("idle");
    }

    private Map<String, ?> execute(Map<String, Object> content) {
        String code = String.valueOf(content.get("code"));
        if (!Boolean.TRUE.equals(content.get("silent"))) count++;
        publisher.publish("execute_input", Map.of("code", code, "execution_count", count));
        try {
            Map<String, Object> data = evaluator.run(code);
            flush();
            if (data != null) {
                publisher.publish(
                    "execute_result", Map.of("execution_count", count, "data", data, "metadata", Map.of()));
            }
            return Map.of("status", "ok", "execution_count", count, "user_expressions", Map.of());
        } catch (Evaluator.Failed failed) {
            flush();
            Map<String, Object> error = new LinkedHashMap<>(
                Map.of("ename", failed.name, "evalue", failed.value, "traceback", failed.traceback));
            publisher.publish("error", error);
            error.putAll(Map.of("status", "error", "execution_count", count));
            return error;
        }
    }

    private void flush() {
        System.out.flush();
        System.err.flush();
        out.send();
        err.send();
    }

    private void answer(Zmtp.Peer peer, String kind, Map<String, ?> content) throws IOException {
        peer.send(Zmtp.encode(new ArrayList<>(publisher.frames(kind, content))));
    }

    /** The frame that many places after the delimiter. */
    private static String text(List<byte[]> parts, int place) {
        for (int index = 0; index + place < parts.size(); index++) {
            if (Arrays.equals(parts.get(index), DELIMITER)) {
                return new String(parts.get(index + place), StandardCharsets.UTF_8);
            }
        }
        return "{}";
    }
}
