import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * A warm javac: reads Main.java in frames, answers with class files or with the compiler's words.
 *
 * <p>An answer begins with 1 (compiled: name, bytes, name, bytes, ...), 0 (javac says no: its
 * words), or 2 (javac itself failed: the caller must ask a fresh one). Nothing is kept between two
 * requests but what the JVM has warmed up.
 */
class JavaServer {
    private static final List<String> OPTIONS = List.of("-proc:none", "-classpath", "/work");

    public static void main(String[] arguments) throws IOException {
        DataInputStream requests = new DataInputStream(System.in);
        DataOutputStream answers = new DataOutputStream(System.out);
        // Whatever javac prints by itself must not get between the frames.
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files =
                compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);
        while (true) {
            byte[] source = new byte[requests.readInt()];
            requests.readFully(source);
            byte[] answer = compile(compiler, files, new String(source, StandardCharsets.UTF_8));
            answers.writeInt(answer.length);
            answers.write(answer);
            answers.flush();
        }
    }

    private static byte[] compile(
            JavaCompiler compiler, StandardJavaFileManager files, String source)
            throws IOException {
        ByteArrayOutputStream answer = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(answer);
        StringWriter words = new StringWriter();
        Memory memory = new Memory(files);
        try {
            boolean fine = compiler
                    .getTask(words, memory, null, OPTIONS, null, List.of(new Source(source)))
                    .call();
            out.writeByte(fine ? 1 : 0);
            if (fine) {
                for (Map.Entry<String, ByteArrayOutputStream> one : memory.classes.entrySet()) {
                    write(out, one.getKey().getBytes(StandardCharsets.UTF_8));
                    write(out, one.getValue().toByteArray());
                }
            } else {
                write(out, words.toString().getBytes(StandardCharsets.UTF_8));
            }
        } catch (Throwable failure) {
            return new byte[] {2};
        }
        return answer.toByteArray();
    }

    private static void write(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    /** Main.java, in memory. */
    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String text) {
            super(URI.create("string:///Main.java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    /** Catches class files; javac would put all of them beside Main.java, whatever the package. */
    private static final class Memory extends ForwardingJavaFileManager<JavaFileManager> {
        final Map<String, ByteArrayOutputStream> classes = new LinkedHashMap<>();

        Memory(JavaFileManager files) {
            super(files);
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            classes.put(name.substring(name.lastIndexOf('.') + 1) + ".class", bytes);
            return new SimpleJavaFileObject(URI.create("bytes:///" + classes.size()), kind) {
                @Override
                public OutputStream openOutputStream() {
                    return bytes;
                }
            };
        }
    }
}
