// Says who the AWS SDK for Java takes itself for, by the profile of its environment.
import software.amazon.awssdk.services.sts.StsClient;

public class Whoami {
    public static void main(String[] args) {
        try (StsClient sts = StsClient.create()) {
            System.out.println(sts.getCallerIdentity().arn());
        } catch (RuntimeException error) {
            System.err.println(error);
            System.exit(1);
        }
    }
}
