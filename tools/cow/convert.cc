// SPDX-License-Identifier: GPL-2.0-only
/*
 * Between raw, COW and qcow2. qemu-img does qcow2, as a child: it gets a raw
 * image, or makes one, in a file without a name beside the target.
 */
#include "commands.hh"
#include "make.hh"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ubd::tool
{
namespace
{

using Words = std::vector<std::string>;

bool ends_in(const std::string &name, const std::string &end)
{
	return name.size() > end.size() && !name.compare(name.size() - end.size(), end.size(), end);
}

std::string format_by_name(const std::string &path)
{
	return ends_in(path, ".qcow2") ? "qcow2" : ends_in(path, ".cow") ? "cow" : "raw";
}

std::string format_by_content(const File &file)
{
	CowHeader header;
	const char *why = "";
	char magic[4];
	if (read_header(file, header, why) != CowRead::plain)
		return "cow";
	return file.read_some(magic, 4, 0) == 4 && !std::memcmp(magic, "QFI\xfb", 4) ? "qcow2" : "raw";
}

// A name without anything that qemu-img could take for a protocol or an option.
std::string safe_name(const std::string &path)
{
	char *real = realpath(path.c_str(), nullptr);
	if (!real)
		fail_errno(path, "cannot be found", errno, remedy_for(errno));
	const std::string name = real;
	std::free(real);
	return name;
}

// The child finds our file under this name, as long as it is inherited.
std::string inherited_name(const File &file)
{
	return "/proc/self/fd/" + std::to_string(file.fd());
}

[[noreturn]] void fail_child(const std::string &path, const std::string &what)
{
	fail(path, "qemu-img " + what, "its own message is above");
}

// Runs qemu-img, which gets the descriptors `inherit`; its output goes to `out`,
// or where ours goes if that is -1.
void run_qemu_img(const std::string &path, const Words &words, std::initializer_list<int> inherit, int out)
{
	std::vector<char *> argv;
	for (const std::string &w : words)
		argv.push_back(const_cast<char *>(w.c_str()));
	argv.push_back(nullptr);
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	// Onto itself: that clears its close-on-exec flag, in the child.
	for (int fd : inherit)
		posix_spawn_file_actions_adddup2(&actions, fd, fd);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	pid_t pid;
	const int number = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
	posix_spawn_file_actions_destroy(&actions);
	if (number)
		fail_errno("qemu-img", "cannot be run", number, "install it (Debian: qemu-utils)");
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail_errno("qemu-img", "cannot be waited for", errno, "run it again");
	if (WIFSIGNALED(status))
		fail_child(path, "was ended by signal " + std::to_string(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		fail_child(path, "failed");
}

Words convert_words(const char *from_format, const std::string &from, const char *to_format, const std::string &to)
{
	Words words = { "qemu-img", "convert", "-f", from_format, "-O", to_format };
	if (isatty(STDERR_FILENO) && isatty(STDOUT_FILENO))
		words.push_back("-p");
	words.insert(words.end(), { "--", from, to });
	return words;
}

nlohmann::json qcow2_info(const std::string &path)
{
	constexpr u64 most = 4 << 20;
	const File out(memfd_create("qemu-img", MFD_CLOEXEC), path);
	if (out.fd() < 0)
		fail_errno(path, "no memory for what qemu-img says of it", errno, "free some");
	run_qemu_img(path, { "qemu-img", "info", "-f", "qcow2", "--output=json", "--", safe_name(path) }, {}, out.fd());
	std::string text(std::min(out.size(), most), '\0');
	out.read(text.data(), text.size(), 0);
	const nlohmann::json parsed = nlohmann::json::parse(text, nullptr, false);
	if (!parsed.is_object())
		fail(path, "qemu-img says nothing usable of it", "look at it with qemu-img info");
	return parsed;
}

// A file from a stranger may name any file of the host as its own.
void refuse_other_files(const std::string &path)
{
	const nlohmann::json info = qcow2_info(path);
	const nlohmann::json::json_pointer data("/format-specific/data/data-file");
	if (info.contains("backing-filename") || info.contains(data))
		fail(path, "is a qcow2 file that names another file of this host, which would be read too",
		     "if you trust it, say --follow-names");
}

// What is to be converted, as a raw image.
class Source {
public:
	explicit Source(const ConvertOptions &o);
	const File &raw() const { return *raw_; }
	std::string backing() const { return cow_ ? backing_path(*cow_) : ""; }

private:
	void open_cow_file(const ConvertOptions &o);
	void open_qcow2(const ConvertOptions &o);

	std::optional<Image> cow_;
	std::optional<File> raw_;
};

Source::Source(const ConvertOptions &o)
{
	File file = File::open(o.from, Access::read);
	const std::string format = o.from_format.empty() ? format_by_content(file) : o.from_format;
	if (format == "cow") {
		open_cow_file(o);
	} else if (format == "qcow2") {
		open_qcow2(o);
	} else {
		file.lock(Access::read);
		raw_ = std::move(file);
	}
}

void Source::open_cow_file(const ConvertOptions &o)
{
	cow_ = open_cow(o.from, Access::read);
	const File backing = open_own_backing(*cow_, Access::read);
	raw_ = temporary_file(o.to);
	flatten(*cow_, backing, *raw_);
}

void Source::open_qcow2(const ConvertOptions &o)
{
	if (!o.follow_names)
		refuse_other_files(o.from);
	raw_ = temporary_file(o.to);
	run_qemu_img(o.from, convert_words("qcow2", safe_name(o.from), "raw", inherited_name(*raw_)), { raw_->fd() },
		     -1);
}

void make_raw(const File &from, const File &to)
{
	if (to.share(from))
		return;
	const u64 bytes = from.size();
	to.truncate(bytes);
	Progress progress("copying", bytes);
	Copier copier(from, to, true);
	constexpr u64 piece = 256 << 20;
	for (u64 at = 0; at < bytes; at += piece) {
		copier.copy(at, at, std::min(piece, bytes - at));
		progress.at(at);
	}
}

// qemu-img locks the source by itself, in a way that bears no lock of ours.
void make_qcow2(const File &from, const File &to)
{
	from.unlock();
	run_qemu_img(to.path(), convert_words("raw", inherited_name(from), "qcow2", inherited_name(to)),
		     { from.fd(), to.fd() }, -1);
}

// What differs from the backing file is in the COW file, nothing else.
void make_cow(const ConvertOptions &o, const File &from, const std::string &backing_name, File &to)
{
	if (backing_name.empty())
		fail(o.to, "is to be a COW file, but over what is not said", "name its backing file by --backing");
	const File backing = File::open(backing_name, Access::read);
	Image cow{ {}, new_header(o.to, backing) };
	if (from.size() != cow.header.bytes)
		fail(o.from,
		     "has " + std::to_string(from.size()) + " bytes, but " + shown(backing_name) + " has " +
			     std::to_string(cow.header.bytes),
		     "both have to be of one size");
	to.truncate(cow.header.file_bytes());
	cow.file = std::move(to);
	BitWindow window;
	Comparer comparer(from, backing);
	Copier copier(from, cow.file, true);
	Progress progress("comparing", cow.header.bytes);
	for (u64 first = 0; first < cow.header.sectors(); first += BitWindow::sectors) {
		window.load(cow, first);
		const u64 at = first * UBD_SECTOR_SIZE;
		comparer.compare(at, at, window.bitmap.sectors() * UBD_SECTOR_SIZE, [&](const Range &r) {
			copier.copy(at + r.at, cow.header.data_offset + at + r.at, r.bytes);
			window.bitmap.set(r.at / UBD_SECTOR_SIZE, r.bytes / UBD_SECTOR_SIZE);
		});
		window.commit(cow);
		progress.at(at);
	}
	write_header(cow);
	to = std::move(cow.file);
}

} // namespace

int convert(const ConvertOptions &o)
{
	NewFile made(o.to);
	const std::string format = o.format.empty() ? format_by_name(o.to) : o.format;
	const Source source(o);
	if (format == "cow") {
		make_cow(o, source.raw(), o.backing.empty() ? source.backing() : o.backing, made.file());
	} else if (format == "raw") {
		make_raw(source.raw(), made.file());
		warn_of_header(made.file(), o.to);
	} else {
		make_qcow2(source.raw(), made.file());
	}
	made.keep();
	return status_done;
}

} // namespace ubd::tool
