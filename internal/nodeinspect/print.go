package nodeinspect

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// width is how wide the text is at most, but for single words.
const width = 110

// Print implements report.Answer.
func (a *Answer) Print(w io.Writer) error {
	var b strings.Builder
	a.printServer(&b)
	a.printDisks(&b)
	a.printPlaces(&b)
	a.printRegistration(&b)
	a.printFindings(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *Answer) printServer(b *strings.Builder) {
	s, l := a.Server, a.Limit
	fmt.Fprintf(b, "Node %s\n", a.NodeName)
	fmt.Fprintf(b, "  server    %s, by %s\n", cmp.Or(s.ServerID, "unknown"), cmp.Or(s.Source, "nothing"))
	fmt.Fprintf(b, "  zone      %s\n", cmp.Or(s.Zone, "none"))
	for _, key := range slices.Sorted(maps.Keys(s.Topology)) {
		fmt.Fprintf(b, "            %s=%s\n", key, s.Topology[key])
	}
	for _, source := range s.Sources {
		said := "server " + source.ServerID + ", zone " + cmp.Or(source.Zone, "none")
		paragraph(b, "  ", fmt.Sprintf("%-15s ", source.Name), cmp.Or(source.Error, said))
	}
	room := strconv.FormatInt(l.Room, 10)
	if l.Error != "" {
		room = "unknown"
	}
	fmt.Fprintf(b, "  volumes   %d attached of %d (configured %d, room %s, reserved %d); other disks on its buses: %d\n",
		l.Attached, l.Announced, l.Configured, room, l.Reserved, l.Others)
}

func (a *Answer) printDisks(b *strings.Builder) {
	b.WriteString("\nDisks\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, d := range a.Disks {
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", d.Device, bytes(d.Size), cmp.Or(d.Serial, "-"), strings.Join(d.words(), ", "))
	}
	_ = t.Flush() // into memory
	for _, m := range a.Mappings {
		fmt.Fprintf(b, "  %s  %s on %s\n", m.Device, m.Title, cmp.Or(m.Disk, "a disk that is gone"))
	}
	if len(a.Disks) == 0 {
		b.WriteString("  none\n")
	}
}

// words say what a disk is.
func (d Disk) words() (words []string) {
	add := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	add(d.System, "the system's")
	add(d.Counts, "volume")
	add(d.Counts && d.VolumeID != d.Serial && d.VolumeID != "", d.VolumeID)
	add(!d.Counts && !d.System, "no volume")
	add(d.ReadOnly, "read-only")
	add(d.Unanswered || d.Hangs, "does not answer")
	add(d.Content != "", d.Content)
	add(len(d.Holders) > 0 && !d.System, "held by "+strings.Join(d.Holders, ", "))
	add(d.FoundBy != "", "found by "+d.FoundBy)
	add(d.Refused != "", "refused")
	return words
}

func (a *Answer) printPlaces(b *strings.Builder) {
	b.WriteString("\nPlaces of volumes\n")
	last := ""
	for _, p := range a.Places {
		if p.VolumeID != last || last == "" {
			fmt.Fprintf(b, "  volume %s\n", cmp.Or(p.VolumeID, "unknown"))
			last = p.VolumeID
		}
		role := map[bool]string{true: "staged", false: "published"}[p.Staging]
		fmt.Fprintf(b, "    %-9s  %s\n", role, p.Path)
		what := "nothing is mounted"
		if p.Mounted {
			what = fmt.Sprintf("%s (%s) %s %s", p.Device, p.Number, cmp.Or(p.FSType, "block device"), strings.Join(p.Options, ","))
		}
		if p.TotalBytes > 0 {
			what += fmt.Sprintf(", %s of %s used", bytes(p.UsedBytes), bytes(p.TotalBytes))
		}
		if !p.Recorded {
			what += ", without a record of the kubelet"
		}
		state := cmp.Or(p.Condition, "well")
		if !p.Mounted || p.Condition == "" && cmp.Or(p.Error, p.Refused) != "" {
			state = "odd"
		}
		paragraph(b, "               ", "", what+": "+state)
		if p.Next != "" && p.Next != nothingToDo {
			paragraph(b, "               ", "", "a stage would: "+p.Next)
		}
	}
	if len(a.Places) == 0 {
		b.WriteString("  none\n")
	}
}

// nothingToDo is what a stage does at a place that is well.
const nothingToDo = "nothing, it is as it should be"

func (a *Answer) printRegistration(b *strings.Builder) {
	r := a.Registration
	b.WriteString("\nPlugin\n")
	paragraph(b, "  ", "", cmp.Or(a.Plugin, "none found here"))
	if r.Socket == "" {
		b.WriteString("  registration socket: a side container's\n")
	} else {
		fmt.Fprintf(b, "  registration socket: %s, %s\n", r.Socket, map[bool]string{true: "answered", false: "not answered"}[r.Served])
	}
	fmt.Fprintf(b, "  registered with the kubelet: %s\n", r.Registered)
	for _, reason := range slices.Sorted(maps.Keys(r.Refusals)) {
		fmt.Fprintf(b, "  refusals since its start, %s: %d\n", reason, r.Refusals[reason])
	}
}

func (a *Answer) printFindings(b *strings.Builder) {
	title := map[bool]string{true: "\nWhat is wrong\n", false: "\nTo know\n"}
	for _, isWrong := range []bool{false, true} {
		for _, f := range a.Findings {
			if f.Wrong != isWrong {
				continue
			}
			b.WriteString(title[isWrong])
			title[isWrong] = ""
			paragraph(b, "  ", "", f.Subject+": "+f.Text)
			if f.Why != "" {
				paragraph(b, "    ", "why:  ", f.Why)
			}
			if f.Do != "" {
				paragraph(b, "    ", "do:   ", f.Do)
			}
		}
	}
	if !a.Wrong() {
		b.WriteString("\nNothing is wrong.\n")
	}
}

// paragraph writes a text that begins with a word, in lines of the same indent.
func paragraph(b *strings.Builder, indent, word, text string) {
	line := indent + word
	blank := strings.Repeat(" ", len(line))
	empty := true
	for w := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(w) > width {
			b.WriteString(line + "\n")
			line, empty = blank, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+w, false
	}
	b.WriteString(line + "\n")
}

// bytes writes a size for people.
func bytes(n int64) string {
	const step = 1024
	size, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for size >= step && len(units) > 1 {
		size, units = size/step, units[1:]
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + units[0]
}
