// Builds one test binary from many programs, so that they are linked once and not one by one.
//
// Runs inside the sandbox, in a folder with in/NAME.go for each program. A program is taken only if
// nothing of it can run, or be noticed, while another one's tests run: it declares no package-level
// variable, no init, no main; it imports only packages that are known; it gives the compiler no
// directives; it does not ask for the names of types and tests, which are others in a batch. Each
// becomes a package of its own. What vet or the compiler objects to is left out.
//
// The arguments are the go command, a word that each test writes when it has ended ("-" for none),
// and the flags of vet that "go test" uses.
//
// Writes the file "out": a line of JSON that maps each taken program to its tests, and the binary.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

const root = "gopath/src"

// What tells a program its package's or its test's name: verbs that print types (also one that is
// put together from pieces), a test's name and folder, the words of a run-time panic.
var namesThings = regexp.MustCompile(
	"%[-+ 0-9.*\\[\\]]*[#T]|%[\"'`]|\\.Name\\(|TempDir|\\brecover\\b")

var known = map[string]bool{}

func init() {
	for _, path := range strings.Fields(`bytes container/heap container/list container/ring
		crypto/md5 encoding/hex errors fmt math math/big math/bits math/cmplx math/rand regexp sort
		strconv strings testing time unicode unicode/utf8 github.com/stretchr/testify/assert`) {
		known[path] = true
	}
}

func main() {
	taken := map[string][]string{}
	files, _ := filepath.Glob("in/*.go")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".go")
		source, err := os.ReadFile(file)
		check(err)
		if text, tests := alone(name, source); len(tests) > 0 {
			folder := filepath.Join(root, name)
			check(os.MkdirAll(folder, 0o755))
			check(os.WriteFile(filepath.Join(folder, "program.go"), text, 0o644))
			taken[name] = tests
		}
	}
	vet(taken)
	binary := []byte{}
	if len(taken) > 0 {
		binary = link(taken)
	}
	report, err := json.Marshal(taken)
	check(err)
	check(os.WriteFile("out", append(append(report, '\n'), binary...), 0o644))
}

// alone returns the program as package name, and its tests; none if it must not share a binary.
func alone(name string, source []byte) ([]byte, []string) {
	if bytes.Contains(source, []byte("//go:")) || bytes.Contains(source, []byte("+build")) ||
		bytes.Contains(source, []byte("//line")) || bytes.Contains(source, []byte("/*line")) ||
		bytes.Contains(source, []byte("//export")) || namesThings.Match(source) {
		return nil, nil
	}
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, "program.go", source, parser.ParseComments)
	if err != nil || tree.Name.Name != "main" {
		return nil, nil
	}
	tests := []string{}
	for _, one := range tree.Imports {
		path, err := strconv.Unquote(one.Path.Value)
		if err != nil || !known[path] {
			return nil, nil
		}
	}
	for _, declaration := range tree.Decls {
		switch one := declaration.(type) {
		case *ast.GenDecl:
			if one.Tok == token.VAR {
				return nil, nil
			}
		case *ast.FuncDecl:
			if one.Recv != nil {
				continue
			}
			called := one.Name.Name
			switch {
			case called == "init" || called == "main" || called == "TestMain":
				return nil, nil
			case regexp.MustCompile(`^(Example|Benchmark|Fuzz)`).MatchString(called):
				return nil, nil
			case strings.HasPrefix(called, "Test"):
				if !isTest(one) {
					return nil, nil
				}
				tests = append(tests, called)
			}
		}
	}
	at := files.Position(tree.Name.Pos()).Offset
	text := append([]byte{}, source[:at]...)
	text = append(text, name...)
	return append(text, source[at+len("main"):]...), tests
}

func isTest(function *ast.FuncDecl) bool {
	kind := function.Type
	if kind.TypeParams != nil || kind.Results != nil || len(kind.Params.List) != 1 {
		return false
	}
	parameter := kind.Params.List[0]
	pointer, isPointer := parameter.Type.(*ast.StarExpr)
	if !isPointer || len(parameter.Names) > 1 {
		return false
	}
	selector, isSelector := pointer.X.(*ast.SelectorExpr)
	if !isSelector || selector.Sel.Name != "T" {
		return false
	}
	owner, isName := selector.X.(*ast.Ident)
	plainName := regexp.MustCompile(`^Test([A-Z0-9][A-Za-z0-9_]*)?$`)
	return isName && owner.Name == "testing" && plainName.MatchString(function.Name.Name)
}

// vet drops the programs that vet, or the type checker before it, has something to say about.
func vet(taken map[string][]string) {
	if len(taken) == 0 {
		return
	}
	arguments := append([]string{"vet"}, os.Args[3:]...)
	command := exec.Command(os.Args[1], append(arguments, names(taken)...)...)
	words, err := command.CombinedOutput()
	if err == nil {
		return
	}
	found := regexp.MustCompile(`(?m)^# (\S+)`).FindAllSubmatch(words, -1)
	for _, one := range found {
		delete(taken, string(one[1]))
	}
	if len(found) == 0 {
		fatal(words)
	}
}

func link(taken map[string][]string) []byte {
	var text strings.Builder
	text.WriteString("package together\n\nimport (\n\t\"os\"\n\t\"testing\"\n")
	for _, name := range names(taken) {
		fmt.Fprintf(&text, "\t%q\n", name)
	}
	text.WriteString(")\n")
	word := ""
	if os.Args[2] != "-" {
		word = "\n" + os.Args[2] + "\n"
	}
	fmt.Fprintf(&text, "\nvar out = os.Stdout\n\nfunc ended() { out.WriteString(%q) }\n", word)
	for _, name := range names(taken) {
		for _, test := range taken[name] {
			fmt.Fprintf(&text, "\nfunc Test_%s_%s(t *testing.T) { %s.%s(t); ended() }\n", name, test, name, test)
		}
	}
	folder := filepath.Join(root, "together")
	check(os.MkdirAll(folder, 0o755))
	check(os.WriteFile(filepath.Join(folder, "together_test.go"), []byte(text.String()), 0o644))
	command := exec.Command(os.Args[1], "test", "-vet=off", "-c", "-o", "all.test", "together")
	if words, err := command.CombinedOutput(); err != nil {
		fatal(words)
	}
	binary, err := os.ReadFile("all.test")
	check(err)
	return binary
}

func names(taken map[string][]string) []string {
	sorted := []string{}
	for name := range taken {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	return sorted
}

func check(err error) {
	if err != nil {
		fatal([]byte(err.Error()))
	}
}

func fatal(words []byte) {
	os.Stderr.Write(words)
	os.Exit(1)
}
