// Prints a file by Hadoop's S3A, which is set up by arguments of the form name=value; the last one is the file.
import java.io.InputStream;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

public class S3a {
    public static void main(String[] args) {
        Configuration settings = new Configuration();
        for (int i = 0; i < args.length - 1; i++) {
            String[] setting = args[i].split("=", 2);
            settings.set(setting[0], setting[1]);
        }
        Path file = new Path(args[args.length - 1]);
        try (InputStream content = file.getFileSystem(settings).open(file)) {
            System.out.print(new String(content.readAllBytes()));
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
    }
}
