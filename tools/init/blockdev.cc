// SPDX-License-Identifier: GPL-2.0-only
#include "blockdev.hh"

#include <cctype>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace
{

constexpr const char *class_directory = "/sys/class/block";

struct FileSystem {
	Text type;
	Path uuid;
	Path label;
};

uint32_t little32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | static_cast<uint32_t>(p[3]) << 24;
}

uint64_t little64(const uint8_t *p)
{
	return little32(p) | static_cast<uint64_t>(little32(p + 4)) << 32;
}

bool same_ignoring_case(Text a, Text b)
{
	return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

/* @order: which byte comes at which place of the text. */
void format_uuid(const uint8_t *bytes, const uint8_t *order, Path &out)
{
	char digits[3];

	for (int i = 0; i < 16; ++i) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out.append("-");
		snprintf(digits, sizeof(digits), "%02x", bytes[order[i]]);
		out.append(digits);
	}
}

constexpr uint8_t big_endian_uuid[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
/* EFI's GUIDs keep their first three fields in little-endian order. */
constexpr uint8_t efi_guid[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

/* Superblocks: fs/ext4/ext4.h (at byte 1024), fs/xfs/libxfs/xfs_format.h (at 0). */
bool read_superblock(const char *path, FileSystem &fs)
{
	uint8_t block[2048];
	const uint8_t *ext = block + 1024;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	ssize_t n = pread(fd, block, sizeof(block), 0);
	close(fd);
	if (n != sizeof(block))
		return false;

	if (memcmp(block, "XFSB", 4) == 0) {
		fs.type = "xfs";
		format_uuid(block + 32, big_endian_uuid, fs.uuid);
		const char *label = reinterpret_cast<const char *>(block + 108);
		fs.label.append(Text(label, strnlen(label, 12)));
		return true;
	}
	if (ext[0x38] == 0x53 && ext[0x39] == 0xef) {
		/* ext4 mounts its ancestors as well. */
		fs.type = "ext4";
		format_uuid(ext + 0x68, big_endian_uuid, fs.uuid);
		const char *label = reinterpret_cast<const char *>(ext + 0x78);
		fs.label.append(Text(label, strnlen(label, 16)));
		return true;
	}
	return false;
}

/* Where a device's sysfs attribute is; @name is its directory's name. */
void attribute_path(Text name, Text attribute, Path &out)
{
	out.append(class_directory).append("/").append(name).append("/").append(attribute);
}

uint64_t attribute_number(Text name, Text attribute)
{
	Path path;
	char value[32];
	uint64_t number = 0;

	attribute_path(name, attribute, path);
	size_t length = read_file(path.c_str(), value, sizeof(value));
	while (length > 0 && value[length - 1] == '\n')
		--length;
	parse_number(Text(value, length), 10, number);
	return number;
}

/* The value of KEY= in a device's uevent file. */
bool uevent_value(Text name, Text key, Path &value)
{
	Path path;
	char text[2048];

	attribute_path(name, "uevent", path);
	Text rest(text, read_file(path.c_str(), text, sizeof(text)));
	while (!rest.empty()) {
		Text content = next_field(rest, '\n');
		Text found = next_field(content, '=');

		if (found == key) {
			value.append(content);
			return true;
		}
	}
	return false;
}

void node_path(Text name, Path &out)
{
	Path node;

	out.append("/dev/");
	/* sysfs writes '!' for a slash in a name; uevent has it as it is. */
	if (uevent_value(name, "DEVNAME", node))
		out.append(node.text());
	else
		out.append(name);
}

/* The disk that a partition is on: its directory in sysfs lies in the disk's. */
bool parent_disk(Text name, Path &disk)
{
	Path link;
	char target[512];

	attribute_path(name, "", link);
	Path trimmed(Text(link.c_str(), link.text().size() - 1));
	ssize_t n = readlink(trimmed.c_str(), target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	char *last = strrchr(target, '/');
	if (last == nullptr)
		return false;
	*last = '\0';
	char *parent = strrchr(target, '/');
	if (parent == nullptr)
		return false;
	disk.append(parent + 1);
	return true;
}

/* The unique GUID of entry @number, counted from 1, of a GPT. */
bool gpt_entry_uuid(int fd, uint64_t sector, uint64_t number, Path &uuid)
{
	uint8_t header[512], entry[128];

	if (pread(fd, header, sizeof(header), sector) != sizeof(header) || memcmp(header, "EFI PART", 8) != 0)
		return false;
	uint64_t table = little64(header + 72);
	uint32_t entries = little32(header + 80);
	uint32_t size = little32(header + 84);
	if (number == 0 || number > entries || size < sizeof(entry))
		return false;
	if (pread(fd, entry, sizeof(entry), table * sector + (number - 1) * size) != sizeof(entry))
		return false;
	format_uuid(entry + 16, efi_guid, uuid);
	return true;
}

/* An MBR has no UUIDs: the kernel makes them of disk signature and number. */
bool mbr_entry_uuid(int fd, uint64_t number, Path &uuid)
{
	uint8_t mbr[512];
	char text[32];

	if (pread(fd, mbr, sizeof(mbr), 0) != sizeof(mbr) || mbr[510] != 0x55 || mbr[511] != 0xaa)
		return false;
	snprintf(text, sizeof(text), "%08x-%02x", little32(mbr + 440), static_cast<unsigned>(number));
	uuid.append(text);
	return true;
}

bool partition_uuid(Text name, Path &uuid)
{
	Path disk, node;
	uint64_t number = attribute_number(name, "partition");

	/* Newer kernels than 6.12 say it themselves. */
	if (uevent_value(name, "PARTUUID", uuid))
		return true;
	if (number == 0 || !parent_disk(name, disk))
		return false;
	node_path(disk.text(), node);
	uint64_t sector = attribute_number(disk.text(), "queue/logical_block_size");
	int fd = open(node.c_str(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool found = gpt_entry_uuid(fd, sector ? sector : 512, number, uuid) || mbr_entry_uuid(fd, number, uuid);
	close(fd);
	return found;
}

bool device_matches(Text name, Text key, Text wanted)
{
	FileSystem fs;
	Path node, value;

	if (key == "PARTUUID")
		return partition_uuid(name, value) && same_ignoring_case(value.text(), wanted);
	if (key == "PARTLABEL")
		return uevent_value(name, "PARTNAME", value) && value.text() == wanted;

	node_path(name, node);
	if (!read_superblock(node.c_str(), fs))
		return false;
	if (key == "UUID")
		return same_ignoring_case(fs.uuid.text(), wanted);
	return fs.label.text() == wanted;
}

/* Calls @visit(name) for each block device until it returns true. */
template <typename Visit> bool any_block_device(Visit visit)
{
	DIR *directory = opendir(class_directory);
	bool found = false;

	if (directory == nullptr)
		return false;
	while (const dirent *entry = readdir(directory)) {
		if (entry->d_name[0] == '.')
			continue;
		found = visit(Text(entry->d_name));
		if (found)
			break;
	}
	closedir(directory);
	return found;
}

bool split_key(Text spec, Text &key, Text &value)
{
	static constexpr Text keys[] = { "PARTUUID=", "PARTLABEL=", "UUID=", "LABEL=" };

	for (Text known : keys) {
		if (starts_with(spec, known)) {
			value = after(spec, known);
			key = Text(known.data(), known.size() - 1);
			return true;
		}
	}
	return false;
}

/* MAJOR:MINOR, or the kernel's 32-bit device number in hexadecimal. */
bool parse_device_number(Text spec, uint64_t &major_number, uint64_t &minor_number)
{
	uint64_t number;
	Text rest = spec;
	Text first = next_field(rest, ':');

	if (parse_number(first, 10, major_number) && parse_number(rest, 10, minor_number))
		return true;
	if (!parse_number(spec, 16, number))
		return false;
	/* new_decode_dev() of include/linux/kdev_t.h */
	major_number = (number & 0xfff00) >> 8;
	minor_number = (number & 0xff) | ((number >> 12) & 0xfff00);
	return true;
}

bool find_by_number(uint64_t major_number, uint64_t minor_number, Path &path)
{
	char link[64], target[512];

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", static_cast<unsigned>(major_number),
		 static_cast<unsigned>(minor_number));
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	const char *name = strrchr(target, '/');
	if (name == nullptr)
		return false;
	node_path(name + 1, path);
	return true;
}

} // namespace

bool valid_device_spec(Text spec)
{
	Text key, value;
	uint64_t major_number, minor_number;

	return starts_with(spec, "/dev/") || split_key(spec, key, value) ||
	       parse_device_number(spec, major_number, minor_number);
}

bool find_block_device(Text spec, Path &path)
{
	Text key, value;
	uint64_t major_number, minor_number;
	Path found;
	bool ok;

	if (starts_with(spec, "/dev/")) {
		struct stat status;

		found.append(spec);
		ok = stat(found.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
	} else if (split_key(spec, key, value)) {
		ok = any_block_device([&](Text name) {
			if (!device_matches(name, key, value))
				return false;
			node_path(name, found);
			return true;
		});
	} else {
		ok = parse_device_number(spec, major_number, minor_number) &&
		     find_by_number(major_number, minor_number, found);
	}
	/* A node that devtmpfs has not made yet, or whose medium is gone. */
	if (!ok || access(found.c_str(), F_OK) != 0)
		return false;
	path = found;
	return true;
}

Text probe_file_system(const char *path)
{
	FileSystem fs;

	return read_superblock(path, fs) ? fs.type : Text();
}

void list_block_devices()
{
	bool any = false;

	say("block devices:");
	any_block_device([&](Text name) {
		FileSystem fs;
		Path node, number, uuid;
		char line[768];

		any = true;
		node_path(name, node);
		uevent_value(name, "MAJOR", number);
		number.append(":");
		uevent_value(name, "MINOR", number);
		int n = snprintf(line, sizeof(line), "  %-14s %-7s %10llu KiB", node.c_str(), number.c_str(),
				 static_cast<unsigned long long>(attribute_number(name, "size")) / 2);
		if (read_superblock(node.c_str(), fs))
			n += snprintf(line + n, sizeof(line) - n, "  %s UUID=%s LABEL=%s", fs.type.data(),
				      fs.uuid.c_str(), fs.label.c_str());
		if (partition_uuid(name, uuid))
			snprintf(line + n, sizeof(line) - n, "  PARTUUID=%s", uuid.c_str());
		say("%s", line);
		return false;
	});
	if (!any)
		say("  none");
}
