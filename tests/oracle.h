/** oracle.h - stored answers of the reference programs (tests/oracle/): whole arrays and attributes, read by every
 * rank. */
#ifndef ORACLE_H
#define ORACLE_H
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* tests/oracle/<name>; FERRY_TEST_DATA is the folder of the tests. */
static inline hid_t oracle_open(const char *name)
{
    char path[1024];
    const char *folder = getenv("FERRY_TEST_DATA");
    snprintf(path, sizeof path, "%s/oracle/%s", folder ? folder : ".", name);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
        fprintf(stderr, "no %s: set FERRY_TEST_DATA to the folder of the tests\n", path);
        exit(1);
    }
    return file;
}

/* The whole array as doubles; free it. shape [2]: its lengths, 1 where it has one dimension. */
static inline double *oracle_array(hid_t file, const char *group, const char *name, hsize_t shape[2])
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", group, name);
    hid_t set = H5Dopen2(file, path, H5P_DEFAULT);
    if (set < 0) {
        fprintf(stderr, "the oracle has no %s\n", path);
        exit(1);
    }
    hid_t space = H5Dget_space(set);
    hsize_t lengths[2] = {1, 1};
    H5Sget_simple_extent_dims(space, lengths, NULL);
    double *values = malloc((size_t)(lengths[0] * lengths[1] + 1) * sizeof *values);
    H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Sclose(space);
    H5Dclose(set);
    if (shape) memcpy(shape, lengths, sizeof lengths);
    return values;
}

static inline int oracle_has(hid_t file, const char *group, const char *name)
{
    return H5Aexists_by_name(file, group, name, H5P_DEFAULT) > 0;
}
/* A number; booleans are 0 and 1. */
static inline double oracle_number(hid_t file, const char *group, const char *name)
{
    double value = 0;
    signed char flag = 0;
    hid_t attribute = H5Aopen_by_name(file, group, name, H5P_DEFAULT, H5P_DEFAULT), type = H5Aget_type(attribute);
    if (H5Tget_class(type) == H5T_ENUM) { /* how h5py stores a boolean */
        H5Aread(attribute, type, &flag);
        value = flag;
    } else {
        H5Aread(attribute, H5T_NATIVE_DOUBLE, &value);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return value;
}
/* A text of at most 63 characters, or "" when the attribute is missing or no text. */
static inline void oracle_text(char text[64], hid_t file, const char *group, const char *name)
{
    text[0] = 0;
    if (!oracle_has(file, group, name)) return;
    hid_t attribute = H5Aopen_by_name(file, group, name, H5P_DEFAULT, H5P_DEFAULT), type = H5Aget_type(attribute);
    if (H5Tis_variable_str(type) > 0) {
        char *stored = NULL;
        hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        H5Aread(attribute, memory, (void *)&stored);
        snprintf(text, 64, "%s", stored ? stored : "");
        H5free_memory(stored);
        H5Tclose(memory);
    }
    H5Tclose(type);
    H5Aclose(attribute);
}
#endif
