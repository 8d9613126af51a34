package getopttest

import (
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
)

func TestNames(t *testing.T) {
	for want, o := range map[string]getopt.Option{
		"-p --pid --process": {Short: 'p', Long: []string{"pid", "process"}},
		"--backup":           {Long: []string{"backup"}},
		"-o":                 {Short: 'o'},
		"-\xff":              {Short: 0xff},
		"":                   {},
	} {
		if got := strings.Join(Names(o), " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLookup(t *testing.T) {
	for name, id := range map[string]int{
		"-v": 1, "--verbose": 1, "--version": 2, "-f": 3, "--backup": 4,
		"--verb": 0, "file": 0, "v": 0, "-": 0, "--": 0, "": 0, "-\x00": 0, "-file": 0,
	} {
		o, ok := Lookup(table, name)
		if ok != (id != 0) || o.ID != id {
			t.Errorf("%q: %+v, %v", name, o, ok)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check(table); err != nil {
		t.Error(err)
	}
	type rows = getopt.Table
	long := func(names ...string) getopt.Option { return getopt.Option{ID: 1, Long: names} }
	exact := func(name string) getopt.Option {
		return getopt.Option{ID: 9, Long: []string{name}, Exact: true}
	}
	for want, test := range map[string]rows{
		"no name":                           {{ID: 1}},
		"Arg is 3":                          {{ID: 1, Short: 'a', Arg: 3}},
		`'?' is neither`:                    {{ID: 1, Short: '?'}},
		`'-' is neither`:                    {{ID: 1, Short: '-'}},
		`'ÿ' is neither`:                    {{ID: 1, Short: 0xff}},
		`long name "" cannot`:               {long("")},
		`long name "-a" cannot`:             {long("-a")},
		`long name "a=b" cannot`:            {long("a=b")},
		"row 1: -a is in the table twice":   {{ID: 1, Short: 'a'}, {ID: 1, Short: 'a'}},
		"row 0: --a is in the table twice":  {long("a", "a")},
		"row 1: --a is in the table twice":  {long("a"), exact("a")},
		"Exact name --fi abbreviates":       {long("file"), exact("fi")},
		"Exact name --same abbreviates":     {exact("same"), long("same-a", "same-b")},
		"Exact name --fil abbreviates --fi": {long("fd"), exact("fil"), exact("filter"), long("file")},
	} {
		if err := Check(test); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	// Not a working abbreviation, so its meaning does not change.
	ambiguous := rows{long("save-exe"), {ID: 2, Long: []string{"save-all"}}, exact("save")}
	if err := Check(ambiguous); err != nil {
		t.Error(err)
	}
}
