"""The odd programs' snippets in Java."""
# ruff: noqa: E501 - a snippet stays on its line, as in a program

from tests.runners.evaluate.snippets.base import Snippet, table

JAVA = table(
    body={
        "print": 'System.out.println("x");',
        "print to stderr": 'System.err.println("x");',
        "flood of prints": (
            "{ byte[] b = new byte[1 << 20]; for (int k = 0; k < 100; k++) System.out.write(b, 0, b.length); }"
        ),
        "exit 0": "System.exit(0);",
        "exit 1": "System.exit(1);",
        "exit 97": "System.exit(97);",
        "halt": "Runtime.getRuntime().halt(0);",
        "exception": 'if (true) throw new IllegalStateException("x");',
        "error": 'if (true) throw new AssertionError("x");',
        "assert statement": "assert false;",
        "endless loop": "while (System.nanoTime() != 0) {}",
        "unreachable": "while (true) {}",
        "sleep": "try { Thread.sleep(1000000); } catch (InterruptedException e) {}",
        "memory": (
            "java.util.List<byte[]> m = new java.util.ArrayList<>(); "
            "for (int k = 0; k < 4000; k++) m.add(new byte[1 << 20]);"
        ),
        "standard input": (
            "try { if (System.in.read() < 0) throw new IllegalStateException(); } "
            "catch (java.io.IOException e) {}"
        ),
        "closed stdout": "System.out.close();",
        "bytes that are no text": "System.out.write(255); System.out.flush();",
        "unicode output": 'System.out.println("ж漢");',
        "thread left running": "new Thread(() -> { while (System.nanoTime() != 0) {} }).start();",
        "daemon thread": "{ Thread d = new Thread(() -> { while (System.nanoTime() != 0) {} }); d.setDaemon(true); d.start(); }",
        "division by zero": "{ int z = 0; z = 1 / z; }",
        "null": "((String) null).length();",
        "index": "{ int[] e = new int[0]; e[0] = 1; }",
        "cast": '{ Object o = "x"; Integer n = (Integer) o; }',
        "file written": (
            'try { new java.io.FileWriter("x").close(); } '
            "catch (java.io.IOException e) { throw new RuntimeException(e); }"
        ),
        "missing file": (
            'try { new java.io.FileReader("/nowhere"); } '
            "catch (java.io.IOException e) { throw new RuntimeException(e); }"
        ),
        "source file": (
            'if (!new java.io.File("Main.class").exists()) throw new IllegalStateException();'
        ),
        "environment": 'System.getenv("NOT_THERE").length();',
        "locale": "java.util.Locale.setDefault(java.util.Locale.GERMANY);",
        "process": (
            'try { new ProcessBuilder("true").start().waitFor(); } '
            "catch (Exception e) { throw new RuntimeException(e); }"
        ),
        "missing class": "Nothing.there();",
        "checked exception": 'throw new Exception("x");',
        "unchecked cast warning": "java.util.List l = new java.util.ArrayList(); l.add(1);",
        "deprecated call": "new Integer(1);",
        "reflection": (
            'try { Class.forName("Main").getDeclaredMethod("nothing"); } '
            "catch (Exception e) { throw new RuntimeException(e); }"
        ),
        "wrong return": "if (true) return false;",
    },
    deep_recursion=Snippet(
        "R.r(0);", tail="class R { static int r(int n) { return r(n + 1) + 1; } }"
    ),
    tail_function=Snippet(tail="class G { int g() { return 1; } }"),
    syntax_error=Snippet(tail="class Broken {"),
    import_behind_a_class=Snippet(tail="import java.util.Map;"),
    missing_import=Snippet(head="import nothing.there;"),
    duplicate_main=Snippet(tail="class Main {}"),
    unicode_identifier=Snippet(tail="class Größe { int größe; }"),
    escaped_identifier=Snippet(tail="class \\u0041b {}"),
    package=Snippet(head="package p;"),
    static_exception=Snippet("int q = T.x;", tail="class T { static int x = 1 / (int) 0L; }"),
    an_enum_and_an_interface=Snippet(tail="enum E { A, B }\ninterface I { int f(); }"),
    a_record=Snippet(tail="record P(int x, int y) {}"),
    second_public_class=Snippet(tail="public class Other {}"),
    hidden_string=Snippet(tail="class String {}"),
    large_constant=Snippet(tail=f'class L {{ String s = "{"x" * 70_000}"; }}'),
    processor=Snippet(tail="@interface A {}\n@A class WithA {}"),
    empty_main_class=Snippet(tail="public class Main {\n    }"),
)
