// SPDX-License-Identifier: GPL-2.0-only
/*
 * ubd-replay [OPTION...] COW-FILE RECORD JOURNAL
 * ubd-replay --bugs
 * ubd-replay --plant COW-FILE
 *
 * Crashes the host after each entry of a record of a driver's calls (see
 * replay.hh), which began when the COW file was as it is in COW-FILE.
 *
 *	--bug NAME	with that bug put into the record: it has to be found
 *	--check pairs|states	only this check, not both
 *	--random N	so many states by chance, where there are too many (400)
 *	--seed N	of those (1)
 *	--bugs		lists the bugs that can be put in
 *	--plant		fills places in the COW file that hold no sector with what is
 *			never to be seen
 *
 * The last line is the figures. Status 0: every promise was kept; 1: one was
 * broken, which is described; 2: the files are of no use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bugs.hh"
#include "content.hh"
#include "replay.hh"

namespace ubd::sim
{

bool tracing;
bool asserts_ignored;

void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("BROKEN: ");
	vprintf(format, args);
	putchar('\n');
	exit(1);
}

void trace(const char *, ...) {}

} // namespace ubd::sim

// What core wants of a kernel.
extern "C" void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	ubd::crash::fail("%s:%d: broken invariant: %s", file, line, what);
}

namespace ubd::crash
{
namespace
{

class CowFile {
public:
	CowFile(const char *path, int flags) : path_(path), fd_(open(path, flags | O_CLOEXEC))
	{
		if (fd_ < 0)
			refuse("%s: %s", path, strerror(errno));
		std::vector<u8> head(UBD_COW_HEADER_MAX);
		read(head.data(), head.size(), 0);
		const char *why = "it is none";
		if (read_cow_header(head.data(), head.size(), shape_.header, why) != CowRead::ok)
			refuse("%s: as a COW file: %s", path, why);
	}
	~CowFile() { close(fd_); }
	CowFile(const CowFile &) = delete;
	CowFile &operator=(const CowFile &) = delete;

	Shape &shape() { return shape_; }
	void read(void *to, size_t n, u64 at) const
	{
		if (pread(fd_, to, n, static_cast<off_t>(at)) != static_cast<ssize_t>(n))
			refuse("%s: cannot read %zu bytes at %llu", path_, n, at);
	}
	void write(const void *from, size_t n, u64 at) const
	{
		if (pwrite(fd_, from, n, static_cast<off_t>(at)) != static_cast<ssize_t>(n))
			refuse("%s: cannot write %zu bytes at %llu", path_, n, at);
	}

	// The hot sectors, and all that is in front of the data.
	Image image() const
	{
		Image image;
		image.front.resize(shape_.header.data_offset);
		read(image.front.data(), image.front.size(), 0);
		for (u64 sector : shape_.hot) {
			u8 content[sector_bytes];
			read(content, sizeof(content), shape_.data_at(sector));
			image.data.push_back(value_of_sector(content, sector));
			if (image.data.back() == garbage && is_set(image, sector))
				refuse("%s: has in sector %llu what no record is", path_, sector);
		}
		return image;
	}
	bool is_set(const Image &image, u64 sector) const
	{
		return image.front[shape_.bit_byte(sector)] >> sector % 8 & 1;
	}

private:
	const char *path_;
	const int fd_;
	Shape shape_;
};

// In the first part of each block of the bitmap, eight sectors by turns.
int plant(const char *path)
{
	CowFile file(path, O_RDWR);
	const Image image = file.image();
	u8 content[sector_bytes];
	memset(content, 0xa5, sizeof(content));
	u64 n = 0;
	for (u64 sector = 0; sector < file.shape().header.sectors(); sector++) {
		if (sector % CowBitmap::block_sectors >= 10000 || sector / 8 % 2 || file.is_set(image, sector))
			continue;
		file.write(content, sizeof(content), file.shape().data_at(sector));
		n++;
	}
	printf("%llu sectors of the file hold what is never to be seen\n", n);
	return 0;
}

void find_hot(const Journal &journal, Shape &shape)
{
	std::vector<bool> hot(shape.header.sectors());
	for (const Act &a : journal.acts)
		for (u64 s = a.first; s < a.first + a.count; s++)
			hot.at(s) = true;
	for (u64 s = 0; s < hot.size(); s++)
		if (hot[s])
			shape.hot.push_back(s);
}

void show(const Record &record, const Shape &shape, const Figures &f)
{
	u64 kinds[host_op_count] = {}, bits = 0;
	for (const Call &c : record.calls) {
		kinds[static_cast<u8>(c.op)]++;
		bits += c.changes() && c.offset < shape.header.data_offset;
	}
	printf("%zu calls recorded: %llu writes, %llu of them of bits, %llu fdatasyncs, %llu holes and zeroes\n",
	       record.calls.size(), kinds[1] + kinds[2], bits, kinds[3], kinds[4] + kinds[5]);
	printf("%llu crash points, %llu marks; %llu pairs of contents; %llu states of the file opened: every subset of "
	       "the writes at %llu points, up to %llu that may or may not be there\n",
	       f.points, f.marks, f.pairs, f.states, f.exhaustive, f.most_open);
}

struct Arguments {
	ReplayOptions options;
	const Bug *bug = nullptr;
	const char *file[3];
	int files = 0;
};

[[noreturn]] void usage()
{
	refuse("usage: [--bug NAME] [--check pairs|states] [--random N] [--seed N] COW-FILE RECORD JOURNAL");
}

Arguments parse(int argc, char **argv)
{
	Arguments a;
	for (int i = 1; i < argc; i++) {
		const std::string word = argv[i];
		if (word[0] != '-') {
			if (a.files == 3)
				usage();
			a.file[a.files++] = argv[i];
			continue;
		}
		if (++i == argc)
			usage();
		if (word == "--bug" && (a.bug = find_bug(argv[i])))
			continue;
		if (word == "--check" && (!strcmp(argv[i], "pairs") || !strcmp(argv[i], "states"))) {
			a.options.pairs = argv[i][0] == 'p';
			a.options.states = !a.options.pairs;
		} else if (word == "--random") {
			a.options.random = static_cast<u32>(strtoul(argv[i], nullptr, 0));
		} else if (word == "--seed") {
			a.options.seed = strtoull(argv[i], nullptr, 0);
		} else {
			usage();
		}
	}
	if (a.files != 3)
		usage();
	return a;
}

int replay(const Arguments &a)
{
	CowFile file(a.file[0], O_RDONLY);
	Record record(a.file[1]);
	const Journal journal(a.file[2]);
	find_hot(journal, file.shape());
	if (a.bug && !a.bug->put(record, file.shape()))
		refuse("%s: there is no place for that bug in this record", a.bug->name);
	Replay r(record, journal, file.shape(), file.image(), a.options);
	r.run();
	show(record, file.shape(), r.figures());
	return 0;
}

int list_bugs()
{
	for (const Bug *b = bugs; b->name; b++)
		printf("%s\t%s\n", b->name, b->words);
	return 0;
}

} // namespace
} // namespace ubd::crash

int main(int argc, char **argv)
{
	using namespace ubd::crash;
	if (argc == 2 && !strcmp(argv[1], "--bugs"))
		return list_bugs();
	if (argc == 3 && !strcmp(argv[1], "--plant"))
		return plant(argv[2]);
	return replay(parse(argc, argv));
}
