package atoll;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import jdk.jshell.EvalException;
import jdk.jshell.ExpressionSnippet;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;
import jdk.jshell.UnresolvedReferenceException;
import jdk.jshell.VarSnippet;

/** Cells on a JShell in this process. Interrupts reach loops, too: JShell puts checks into them. */
final class Evaluator {
    private static final List<String> IMPORTS = List.of(
        "java.io.*", "java.math.*", "java.net.*", "java.nio.file.*", "java.util.*", "java.util.concurrent.*",
        "java.util.function.*", "java.util.regex.*", "java.util.stream.*", "java.time.*", "static atoll.Notebook.*");
    private static final Set<String> PLAIN = Set.of(
        "String", "char", "boolean", "byte", "short", "int", "long", "float", "double", "Integer", "Long", "Double");

    private final JShell shell;
    private volatile boolean isInterrupted;

    /** What a cell failed with. */
    @SuppressWarnings("serial")
    static final class Failed extends Exception {
        final String name;
        final String value;
        final List<String> traceback;

        Failed(String name, String value, List<String> traceback) {
            super(value);
            this.name = name;
            this.value = value;
            this.traceback = traceback;
        }
    }

    Evaluator(String classPath) {
        shell = JShell.builder().executionEngine("local").in(System.in)
            .out(System.out).err(System.err).build();
        shell.addToClasspath(classPath);
        for (String name : IMPORTS) shell.eval("import " + name + ";");
    }

    /** The forms of the last expression's value; null when the cell ends with none. */
    Map<String, Object> run(String code) throws Failed {
        isInterrupted = false;
        Map<String, Object> result = null;
        String rest = code;
        while (!rest.isBlank()) {
            CompletionInfo part = shell.sourceCodeAnalysis().analyzeCompletion(rest);
            boolean isWhole = part.completeness().isComplete();
            String source = isWhole ? part.source() : rest;
            result = null;
            for (SnippetEvent event : shell.eval(source)) {
                if (event.causeSnippet() == null) result = read(event);
            }
            rest = isWhole ? part.remaining() : "";
        }
        return result;
    }

    void interrupt() {
        isInterrupted = true;
        shell.stop();
    }

    private Map<String, Object> read(SnippetEvent event) throws Failed {
        if (isInterrupted) throw new Failed("KeyboardInterrupt", "", List.of("KeyboardInterrupt"));
        Snippet snippet = event.snippet();
        if (event.status() == Snippet.Status.REJECTED) throw rejected(snippet);
        if (event.exception() != null) throw thrown(event.exception());
        if (event.value() == null) return null;
        if (snippet.subKind() == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND) {
            VarSnippet variable = (VarSnippet) snippet;
            return value(variable.name(), variable.typeName(), event.value());
        }
        if (snippet instanceof ExpressionSnippet expression) {
            return value(expression.name(), expression.typeName(), event.value());
        }
        return null;
    }

    /** JShell shows values as text only; those that may have more forms show themselves. */
    private Map<String, Object> value(String name, String type, String text) {
        if (!PLAIN.contains(type) && name.matches("[\\w$]+")) {
            Notebook.kept = null;
            shell.eval("atoll.Notebook.keep(" + name + ");");
            if (Notebook.kept != null) return Notebook.kept;
        }
        return Map.of("text/plain", text);
    }

    private Failed rejected(Snippet snippet) {
        List<String> lines = new ArrayList<>();
        String first = null;
        for (var diagnostic : shell.diagnostics(snippet).toList()) {
            String message = diagnostic.getMessage(null);
            if (first == null) first = message.lines().findFirst().orElse("");
            lines.addAll(message.lines().toList());
            int start = (int) Math.max(0, diagnostic.getStartPosition());
            int end = (int) Math.min(snippet.source().length(), diagnostic.getEndPosition());
            if (start < end) lines.add("  " + snippet.source().substring(start, end));
        }
        return new Failed("CompilationException", first == null ? "it does not compile" : first, lines);
    }

    private static Failed thrown(JShellException error) {
        List<String> lines = new ArrayList<>();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            lines.add((cause == error ? "" : "Caused by: ") + name(cause) + ": " + message(cause));
            for (StackTraceElement element : cause.getStackTrace()) lines.add("\tat " + element);
        }
        String name = name(error);
        return new Failed(name.substring(Math.max(name.lastIndexOf('.'), name.lastIndexOf('$')) + 1), message(error), lines);
    }

    private static String name(Throwable error) {
        return error instanceof EvalException thrown ? thrown.getExceptionClassName() : error.getClass().getName();
    }

    private static String message(Throwable error) {
        if (error instanceof UnresolvedReferenceException unresolved) {
            return unresolved.getSnippet().name() + " uses what is not defined yet";
        }
        return error.getMessage() == null ? "" : error.getMessage();
    }
}
