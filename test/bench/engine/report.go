package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one result: a median of the commands, and criu's.
type row struct {
	name       string
	size       int64
	processes  int
	threads    int
	ours, criu time.Duration
}

func (r row) ratio() float64 { return r.ours.Seconds() / r.criu.Seconds() }

// The names of rows.
const (
	rowCheckpoint = "checkpoint"
	rowFrozen     = "frozen"
	rowRestart    = "restart"
	rowCold       = "restart, cold"
	rowFirst      = "lazy, first instruction"
	rowPlaced     = "lazy, all in place"
	rowPacked     = "frozen, compressed"
)

// limit is what the ratio may be, for one process; 0 for any value.
func (r row) limit() float64 {
	type at struct {
		name string
		from int64
	}
	limits := []struct {
		at
		limit float64
	}{
		{at{rowCheckpoint, large}, 0.85}, {at{rowFrozen, some}, 0.6}, {at{rowPacked, some}, 0.7},
		{at{rowRestart, 4 * large}, 0.40}, {at{rowRestart, large}, 0.45}, {at{rowPlaced, large}, 0.5},
	}
	switch {
	case r.processes > 1 || r.threads > 0:
		return 0
	case r.size <= smallest && (r.name == rowCheckpoint || r.name == rowRestart):
		return 1.2
	}
	for _, l := range limits {
		if l.name == r.name && r.size >= l.from {
			return l.limit
		}
	}
	return 0
}

// limitFirst is for a lazy restart of one process, up to its first instruction.
const limitFirst = 100 * time.Millisecond

// report prints the times, and keeps them.
func (b *bench) report(ways []way, size int64) {
	ours, criu, copied := ways[0], ways[len(ways)-2], ways[len(ways)-1]
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d MiB", size>>20)
	if b.processes > 1 {
		fmt.Fprintf(w, ", %d processes", b.processes)
	}
	if b.threads > 0 {
		fmt.Fprintf(w, ", %d threads", b.threads)
	}
	fmt.Fprint(w, "\t")
	for _, way := range ways {
		fmt.Fprintf(w, "%s\t", way)
	}
	fmt.Fprint(w, "\n")
	values := func(name string, of func(*times) []time.Duration) {
		if len(of(ours.times())) == 0 {
			return
		}
		fmt.Fprintf(w, "%s\t", name)
		for _, way := range ways {
			if v := of(way.times()); len(v) > 0 {
				fmt.Fprintf(w, "%.3f s (%.3f)", median(v).Seconds(), slices.Min(v).Seconds())
			}
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, "\n")
	}
	values(rowCheckpoint, func(t *times) []time.Duration { return t.total })
	values(rowFrozen, func(t *times) []time.Duration { return t.frozen })
	values(rowRestart, func(t *times) []time.Duration { return t.restart })
	values("all in place", func(t *times) []time.Duration { return t.placed })
	values(rowCold, func(t *times) []time.Duration { return t.cold })
	w.Flush()

	w = tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	add := func(name string, own, other []time.Duration) {
		if len(own) > 0 {
			r := row{name, size, b.processes, b.threads, median(own), median(other)}
			b.rows = append(b.rows, r)
			b.verdict(w, r)
		}
	}
	t, c := ours.times(), criu.times()
	add(rowCheckpoint, t.total, c.total)
	add(rowFrozen, t.frozen, c.frozen)
	add(rowRestart, t.restart, c.restart)
	add(rowCold, t.cold, c.cold)
	for _, way := range ways {
		own, is := way.(*command)
		switch {
		case is && own.lazy:
			add(rowFirst, own.measured.restart, c.restart)
			add(rowPlaced, own.measured.placed, c.restart)
		case is && len(own.options) > 0:
			add(rowPacked, own.measured.frozen, c.frozen)
			fmt.Fprintf(w, "size, compressed\t%d MiB of %d MiB\n", own.measured.size>>20, t.size>>20)
		}
	}
	fmt.Fprintf(w, "checkpoint / writing as many bytes and fsync\t%.2f\n", median(t.total).Seconds()/median(copied.times().total).Seconds())
	w.Flush()
}

// verdict prints a ratio and its limit.
func (b *bench) verdict(w *tabwriter.Writer, r row) {
	fmt.Fprintf(w, "%s / criu\t%.2f", r.name, r.ratio())
	over, limit := false, ""
	if l := r.limit(); l > 0 {
		over, limit = r.ratio() > l, fmt.Sprintf("%.2f", l)
	} else if r.name == rowFirst && r.processes == 1 && r.threads == 0 {
		over, limit = r.ours > limitFirst, limitFirst.String()
	}
	switch {
	case over:
		b.over = true
		fmt.Fprintf(w, "\tat most %s: OVER", limit)
	case limit != "":
		fmt.Fprintf(w, "\tat most %s: ok", limit)
	}
	fmt.Fprint(w, "\n")
}

// target names the size, the processes or the threads of a row.
func (r row) target() string {
	size := fmt.Sprintf("%d MiB", r.size>>20)
	if r.size >= 1<<30 && r.size%(1<<30) == 0 {
		size = fmt.Sprintf("%d GiB", r.size>>30)
	}
	if r.processes > 1 {
		return fmt.Sprintf("%d processes", r.processes)
	}
	if r.threads > 0 {
		return fmt.Sprintf("%d threads", r.threads)
	}
	return size
}

// colors are those of the bars, which go together on white and on black.
var colors = []string{"#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#9c755f"}

// plot draws the ratios as bars: a group for each name, a bar for each target.
func (b *bench) plot(path string) error {
	const left, top, bottom, tall, bar, gap = 50, 40, 60, 240, 22, 26
	var names, targets []string
	most := 1.25
	for _, r := range b.rows {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
		if !slices.Contains(targets, r.target()) {
			targets = append(targets, r.target())
		}
		most = max(most, r.ratio()*1.1)
	}
	var s strings.Builder
	y := func(ratio float64) float64 { return top + tall*(1-ratio/most) }
	text := func(x, y float64, anchor, text string) {
		fmt.Fprintf(&s, `<text x="%.0f" y="%.0f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, text)
	}
	x := float64(left + gap/2)
	for _, name := range names {
		begin := x
		for _, r := range b.rows {
			if r.name != name {
				continue
			}
			fmt.Fprintf(&s, `<rect x="%.0f" y="%.1f" width="%d" height="%.1f" fill="%s"><title>%s, %s: %.3f s, criu %.3f s</title></rect>`+"\n",
				x, y(r.ratio()), bar-2, y(0)-y(r.ratio()), colors[slices.Index(targets, r.target())%len(colors)], name, r.target(), r.ours.Seconds(), r.criu.Seconds())
			text(x+bar/2-1, y(r.ratio())-3, "middle", strings.TrimPrefix(fmt.Sprintf("%.2f", r.ratio()), "0"))
			x += bar
		}
		x = max(x, begin+90)
		first, second, _ := strings.Cut(name, ", ")
		text((begin+x)/2, y(0)+16, "middle", first)
		text((begin+x)/2, y(0)+30, "middle", second)
		x += gap
	}
	for ratio := 0.0; ratio <= most; ratio += 0.25 {
		text(left-6, y(ratio)+4, "end", fmt.Sprintf("%.2f", ratio))
	}
	for i, target := range targets {
		at := float64(left + 10 + i*110)
		fmt.Fprintf(&s, `<rect x="%.0f" y="10" width="12" height="12" fill="%s"/>`+"\n", at, colors[i%len(colors)])
		text(at+17, 20, "start", target)
	}
	fmt.Fprintf(&s, `<path d="M%d %.1fH%.0fM%d %.1fH%.0f" stroke="#888"/>`+"\n", left, y(0), x, left, y(1), x)
	text(x-4, y(1)-5, "end", "criu = 1")
	width := max(x, float64(left+10+len(targets)*110))
	image := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="sans-serif" font-size="11" fill="#777">
<title>Times of blcr-cli in those of criu %s</title>
%s</svg>
`, width, top+tall+bottom, b.criu.Version, s.String())
	return os.WriteFile(path, []byte(image), 0o644)
}
