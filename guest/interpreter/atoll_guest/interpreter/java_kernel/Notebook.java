package atoll;

import java.awt.image.RenderedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import javax.imageio.ImageIO;

/** What the code of a cell finds: `display(value)`, `display(value, mime)` and `render(value, mime)`. */
public final class Notebook {
    static Consumer<Map<String, Object>> shown = data -> {};
    static Map<String, Object> kept;

    private Notebook() {}

    /** A value in a form of the caller's choice; as a cell's last expression it is the result. */
    public record Rendered(Object value, String mime) {
        @Override
        public String toString() {
            return String.valueOf(value);
        }
    }

    public static Rendered render(Object value, String mime) {
        return new Rendered(value, mime);
    }

    public static void display(Object value) {
        shown.accept(bundle(value));
    }

    public static void display(Object value, String mime) {
        display(render(value, mime));
    }

    /** For the kernel, which can run code but not see its values: the forms of a value. */
    public static void keep(Object value) {
        kept = bundle(value);
    }

    static Map<String, Object> bundle(Object value) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("text/plain", String.valueOf(value));
        if (value instanceof Rendered rendered) data.put(rendered.mime(), content(rendered));
        else if (value instanceof RenderedImage image) data.put("image/png", png(image));
        return data;
    }

    private static Object content(Rendered rendered) {
        if (rendered.value() instanceof byte[] bytes) return Base64.getEncoder().encodeToString(bytes);
        String text = String.valueOf(rendered.value());
        if (!rendered.mime().endsWith("json")) return text;
        try {
            return Json.parse(text);
        } catch (IllegalArgumentException error) {
            return text;
        }
    }

    private static String png(RenderedImage image) {
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ImageIO.write(image, "png", out);
            return Base64.getEncoder().encodeToString(out.toByteArray());
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }
}
