"""The odd programs' snippets in Go."""
# ruff: noqa: E501 - a snippet stays on its line, as in a program

from tests.runners.evaluate.snippets.base import Snippet, table

GO = table(
    body={
        "print": 'println("x")',
        "print by fmt": 'fmt.Println("x")',
        "flood of prints": 'fmt.Print(strings.Repeat("x", 1 << 26))',
        "exception": 'if true { panic("x") }',
        "panic with nothing": "if true { panic(nil) }",
        "endless loop": "for { math.Abs(1) }",
        "sleep": "select {}",
        "sleep by time": "time.Sleep(1000000 * time.Second)",
        "memory": "m := [][]byte{}; for k := 0; k < 4000; k++ { b := make([]byte, 1<<20); for j := range b { b[j] = 1 }; m = append(m, b) }; _ = m",
        "thread left running": "go func() { for { } }()",
        "panic elsewhere": 'go func() { panic("x") }(); time.Sleep(time.Second)',
        "division by zero": "z := 0; z = 1 / z",
        "nil": "var p *int; *p = 1",
        "index": "e := []int{}; e[len(e)] = 1",
        "nil map": "var n map[int]int; n[1] = 1",
        "closed channel": "c := make(chan int); close(c); close(c)",
        "deadlock": "<-make(chan int)",
        "wrong return": "if true { return !true }",
        "unused variable": "unused := 1",
        "vet printf": 'fmt.Printf("%d", "x")',
        "vet self-comparison": "if threshold != threshold { return true }",
        "missing name": "nothingThere()",
        "goexit by tests": "testing.Main(nil, nil, nil, nil)",
        "random": "rand.Seed(1); _ = rand.Intn(2)",
        "bytes that are no text": 'fmt.Print("\\xff")',
        "fake result": 'fmt.Println("--- PASS: TestHasCloseElements\\nPASS")',
        "fake failure": 'fmt.Println("--- FAIL: TestHasCloseElements")',
        "no newline at the end": 'fmt.Print("ok")',
    },
    exit_0=Snippet("os.Exit(0)", head='import "os"'),
    exit_3=Snippet("os.Exit(3)", head='import "os"'),
    print_to_stderr=Snippet('os.Stderr.WriteString("x")', head='import "os"'),
    closed_stdout=Snippet("os.Stdout.Close()", head='import "os"'),
    standard_input=Snippet(
        "if n, _ := os.Stdin.Read(make([]byte, 1)); n == 0 { panic(1) }", head='import "os"'
    ),
    file_written=Snippet(
        'if os.WriteFile("x", nil, 0o644) != nil { panic(1) }', head='import "os"'
    ),
    missing_file=Snippet(
        'if _, e := os.ReadFile("/nowhere"); e != nil { panic(e) }', head='import "os"'
    ),
    environment=Snippet('if os.Getenv("NOT_THERE") == "" { panic(1) }', head='import "os"'),
    process=Snippet('if exec.Command("true").Run() != nil { panic(1) }', head='import "os/exec"'),
    signal=Snippet("syscall.Kill(syscall.Getpid(), syscall.SIGKILL)", head='import "syscall"'),
    raw_exit=Snippet("syscall.Exit(0)", head='import "syscall"'),
    goexit=Snippet("runtime.Goexit()", head='import "runtime"'),
    deep_recursion=Snippet("_ = r(0)", tail="func r(n int) int { return r(n+1) + 1 }"),
    tail_function=Snippet(tail="func g() int { return 1 }"),
    syntax_error=Snippet(tail="func broken("),
    missing_import=Snippet(head='import "nothing/there"'),
    unused_import=Snippet(head='import "errors"'),
    import_behind=Snippet(tail='import "errors"'),
    duplicate_main=Snippet(tail="func main() {}"),
    test_main=Snippet(tail="func TestMain(m *testing.M) {}"),
    early_exit=Snippet(head='import "os"', tail="func init() { os.Exit(0) }"),
    init_panic=Snippet(tail='func init() { panic("x") }'),
    endless_init=Snippet(tail="func init() { for { } }"),
    global_variable=Snippet(tail="var x = 1"),
    other_test=Snippet(tail='func TestOther(t *testing.T) { t.Fatal("x") }'),
    malformed_test=Snippet(tail="func TestOther(t int) {}"),
    example=Snippet(tail="func ExampleX() {\n\t// Output: y\n}"),
    generic=Snippet(tail="func id[T any](x T) T { return x }"),
    unicode_identifier=Snippet(tail="const größe = 1"),
    method=Snippet(tail='type T int\nfunc (t T) String() string { return "" }'),
    name_of_a_type=Snippet(
        'if fmt.Sprintf("%T", T{}) != "main.T" { panic(1) }', tail="type T struct{}"
    ),
    type_in_its_syntax=Snippet(
        'if fmt.Sprintf("%+#v", T{}) != "main.T{}" { panic(1) }', tail="type T struct{}"
    ),
    verb_in_pieces=Snippet(
        'if fmt.Sprintf("%"+string(rune(84)), T{}) != "main.T" { panic(1) }',
        tail="type T struct{}",
    ),
    name_of_the_test=Snippet(
        tail='func TestNamed(t *testing.T) { if t.Name() != "TestNamed" { t.Fatal(t.Name()) } }'
    ),
    words_of_a_panic=Snippet(
        'defer func() { if fmt.Sprint(recover()) != "interface conversion: interface {} is main.T, not int" '
        "{ panic(2) } }(); var e interface{} = T{}; _ = e.(int)",
        tail="type T struct{}",
    ),
    remainder_of_a_character=Snippet("if ('b'-'a')%26+'a' != 'b' { panic(1) }"),
    sub_tests=Snippet(
        tail='func TestSub(t *testing.T) { t.Run("a", func(t *testing.T) {}); t.Run("b", func(t *testing.T) { t.Parallel() }) }'
    ),
    copied_lock=Snippet(head='import "sync"', tail="func l(m sync.Mutex) {}"),
    build_tag=Snippet(head="//go:build ignore"),
    package_again=Snippet(tail="package main"),
)
